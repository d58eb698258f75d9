/** `deno task coverage`: lines of the package that fast tests run. See `deno task coverage --help`. */
import { UsageError } from "../../lib/errors.ts";
import { makeFolder, writeWhole } from "../commands/cli/files.ts";
import { parseOwnFlags, readInteger } from "../commands/cli/flags/parse.ts";
import { readStdFlags, runDeno } from "../commands/cli/machine/deno.ts";
import { EXIT, runTask, writeLine } from "../commands/cli/task.ts";
import { main as build } from "./build.ts";
import { findTested, isInFastTier, TEST_FLAGS } from "./tests.ts";

const ROOT = new URL("../../", import.meta.url);
const FOLDERS = ["lib", "ffi"];
/** The module that makes the lines of children count. */
export const CHILDREN = "experiments/tools/coverage/children.ts";
/** Tests of them that are elsewhere. */
const OTHERS = ["build_test.ts"];
/** The exit code where a folder has too few lines that run. */
const EXIT_BELOW = 1;

export const USAGE = `Usage: deno task coverage [flags]

Runs the fast tests of ${
  FOLDERS.join(" and ")
}, on the CPU and the emulator, and prints the percentage of their lines that ran, as Markdown.
Processes of Deno that tests start count too. Exit code 1: a test has failed, or a folder is below the limit.

  --least N
      percent of the lines of a folder (90)
  --out DIR
      folder for lcov.info, which tools read, and for raw data (results/coverage)
  --help
      print this`;

/** Lines with code of a file, and those of them that ran. */
export interface Covered {
  readonly path: string;
  readonly lines: number;
  readonly ran: number;
}

/** Reads a report in LCOV's format. @param root Folder that paths are relative to, with a slash at its end. */
export function readLcov(text: string, root: string): Covered[] {
  return text.split("end_of_record").flatMap((record) => {
    const [, path] = record.match(/^SF:(.*)$/m) ?? [];
    const ran = Array.from(record.matchAll(/^DA:\d+,(\d+)/gm), ([, count]) => count !== "0");
    if (path === undefined || ran.length === 0) return [];
    return [{ path: path.replace(root, ""), lines: ran.length, ran: ran.filter(Boolean).length }];
  });
}

const percent = ({ lines, ran }: Pick<Covered, "lines" | "ran">) => 100 * ran / lines;
const row = (name: string, own: Pick<Covered, "lines" | "ran">) =>
  `| ${name} | ${own.lines} | ${percent(own).toFixed(1)} |`;

/** A table of folders, and of the files below the limit, lowest first; and the folders below it. */
export function tabulate(
  files: readonly Covered[],
  folders: readonly string[],
  least: number,
): { table: string; below: string[] } {
  const sums = folders.map((folder) => {
    const own = files.filter(({ path }) => path.startsWith(`${folder}/`));
    const sum = (count: (file: Covered) => number) => own.reduce((total, file) => total + count(file), 0);
    return { path: folder, lines: sum(({ lines }) => lines), ran: sum(({ ran }) => ran) };
  });
  const low = files.filter((file) => percent(file) < least).sort((a, b) => percent(a) - percent(b));
  const rows = [...sums, ...low].map((own) => row(`\`${own.path}\``, own));
  return {
    table: ["| place | lines | % run |", "| --- | --- | --- |", ...rows].join("\n"),
    below: sums.filter((sum) => !(percent(sum) >= least)).map(({ path }) => path),
  };
}

/** Runs the command. @returns The exit code. */
export async function main(args: readonly string[]): Promise<number> {
  const { least = "90", out = "results/coverage" } = parseOwnFlags(args, ["least", "out"], []);
  const limit = readInteger("least", least, 0, 100), place = `${out}/raw`;
  if (await build(["--emulated"]) !== EXIT.ok) {
    throw new UsageError("Cannot measure coverage: the build failed");
  }
  await Deno.remove(place, { recursive: true }).catch(() => {});
  makeFolder(place);
  const raw = Deno.realPathSync(place);
  const found = await Promise.all(FOLDERS.map((folder) => findTested(folder)));
  const files = [...found.flat().filter(isInFastTier), ...OTHERS];
  const { code } = await new Deno.Command(Deno.execPath(), {
    args: [
      "test",
      ...TEST_FLAGS,
      `--preload=${CHILDREN}`,
      `--coverage=${raw}`,
      "--coverage-raw-data-only",
      ...await readStdFlags(),
      ...files,
    ],
    env: { TOKENFILTER_TEST_DEVICE: "", DENO_COVERAGE_DIR: raw },
    cwd: ROOT,
  }).spawn().status;
  const include = `--include=^${ROOT.href}(${FOLDERS.join("|")})/`;
  const lcov = await runDeno("report coverage", "coverage", "--lcov", include, "--exclude=test", raw);
  await writeWhole(`${out}/lcov.info`, lcov);
  const { table, below } = tabulate(readLcov(lcov, ROOT.pathname), FOLDERS, limit);
  writeLine(Deno.stdout, table);
  if (below.length > 0) writeLine(Deno.stderr, `${below.join(", ")}: below ${limit}% of the lines`);
  return code !== 0 || below.length > 0 ? EXIT_BELOW : EXIT.ok;
}

if (import.meta.main) await runTask(main, USAGE);
