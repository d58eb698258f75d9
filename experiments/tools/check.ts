/**
 * `deno task check`: checks of changed files, in seconds: format, lint, types, docs, arrows, the nearest tests. See
 * `deno task check --help`.
 */
import { inParallel } from "../../ffi/build/command.ts";
import { ifThere, writeAtomically } from "../../lib/cache.ts";
import { plural } from "../../lib/plural.ts";
import { type Concern, findConcern, listChanged } from "./check/concern.ts";
import { readStdFlags } from "../commands/cli/machine/deno.ts";
import { Interrupt } from "../commands/cli/run/interrupt.ts";
import { parseOwnFlags, readInteger } from "../commands/cli/flags/parse.ts";
import { runGroup } from "./machine/process_group.ts";
import { EXIT, runTask, writeLine } from "../commands/cli/task.ts";
import { EXAMPLE } from "./tests.ts";

const ROOT = new URL("../..", import.meta.url).pathname.replace(/\/$/, "");
/** The exit code where a part fails. */
const EXIT_FAILED = 1;
/** Most modules whose types are checked: the changed ones and their nearest dependents. */
const MOST_MODULES = 40;
/** Time limits: in seconds, of a part other than a test; of tests, as a multiple of the time given to the nearest. */
const LIMIT = 600, NEAREST_TIMES = 3;
/** A test that takes this many times its earlier duration is taken as endless. */
const PATIENCE = 5;
/** Lines of output that are shown of a part that fails, and names of files that are left out. */
const SHOWN_LINES = 40, SHOWN_NAMES = 8;
/**
 * Durations of test files in seconds, below the root. A test that does not fit into the time left is not started. A
 * negative number means that the test was ended after that time.
 */
const TIMES = "build/check_times.json";
export const USAGE = `Usage: deno task check [FILES] [flags]

Checks changed files: format, lint, types of the files and of those that depend on them, docs of the package's entries, and
the arrows of docs/explain/architecture.md. Then runs the tests that depend on them, nearest first, while there is time. Where a
source of the kernels has changed, the libraries are built first. FILES are files or folders; where left out, all that
differs from HEAD, and new files. Prints the seconds of each part, and which tests are left out.
Exit code 0: all is well; 1: a part fails; 2: no such file.

  --seconds N
      time for tests; the nearest of each file has three times as much (15)
  --help
      print this`;

/** A command of the check. */
interface Part {
  readonly name: string;
  /** Arguments of Deno. */
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** A test file, which can be left out. */
  readonly test?: string;
}

/** The commands for some files: a build first, then those that look at sources, then tests. */
async function planParts(
  root: string,
  files: readonly string[],
  concern: Concern,
  flags: readonly string[],
): Promise<Part[]> {
  const parts: Part[] = [], { modules, tests, devices, device } = concern;
  const scripts = files.filter((path) => /\.(ts|js)$/.test(path));
  if (devices.size > 0) {
    const emulated = devices.has("emulated") ? ["--emulated"] : [];
    parts.push({
      name: "build",
      args: ["run", "-A", "--no-lock", "experiments/tools/build.ts", ...emulated],
    });
  }
  if (modules.length > 0) {
    const checked = modules.slice(0, MOST_MODULES);
    const left = modules.length - checked.length;
    const rest = left > 0 ? `; ${left} that depend on them from farther away are left out` : "";
    parts.push({
      name: `types of ${plural(checked.length, "file")}${rest}`,
      args: ["check", ...flags, ...checked],
    });
  }
  if (scripts.length > 0) {
    parts.push({ name: "format", args: ["fmt", "--check", ...scripts] });
    parts.push({ name: "lint", args: ["lint", ...scripts] });
  }
  if (files.some((path) => /^(lib|ffi)\/.*(?<!_test)\.ts$|^[^/]*\.ts$/.test(path))) {
    const { exports = {} }: { exports?: Record<string, string> } = JSON.parse(
      await Deno.readTextFile(`${root}/deno.json`),
    );
    const entries = Object.values(exports);
    if (entries.length > 0) parts.push({ name: "docs of the entries", args: ["doc", "--lint", ...entries] });
  }
  const testArgs = [
    "test",
    "-A",
    "--no-check",
    "--preload=experiments/tools/tests/strict_assert.ts",
    ...flags,
  ];
  for (const path of files.filter((path) => /\.(ts|md)$/.test(path))) {
    if (EXAMPLE.test(await Deno.readTextFile(`${root}/${path}`)) && !path.endsWith("_test.ts")) {
      parts.push({ name: `examples of ${path}`, args: [...testArgs, "--doc", path] });
    }
  }
  const env: Record<string, string> = device === undefined ? {} : { TOKENFILTER_TEST_DEVICE: device };
  return [...parts, ...tests.map((test) => ({ name: test, args: [...testArgs, test], env, test }))];
}

/** Runs the task on the checkout at `root`. @returns The exit code. */
export async function main(args: readonly string[], root = ROOT): Promise<number> {
  const { _: asked, seconds = "15" } = parseOwnFlags(args, ["seconds"], [], true);
  const limit = readInteger("seconds", seconds, 1), began = performance.now();
  const elapsed = () => (performance.now() - began) / 1000;
  const changed = await listChanged(root, asked);
  if (changed.files.length + changed.deleted.length === 0) {
    writeLine(Deno.stdout, "Nothing to check: no file differs from HEAD");
    return EXIT.ok;
  }
  using interrupt = new Interrupt();
  const flags = await readStdFlags(), text = await ifThere(Deno.readTextFile(`${root}/${TIMES}`));
  const times = new Map<string, number>(text === undefined ? [] : JSON.parse(text));
  const known = new Map(Array.from(times, ([test, noted]) => [test, Math.abs(noted)]));
  const concern = await findConcern(root, changed, flags, known);
  const parts = await planParts(root, changed.files, concern, flags);
  const failed: string[] = [], left: string[] = [], built = Promise.withResolvers<boolean>();
  if (concern.devices.size === 0) built.resolve(true);
  let done = 0;

  await inParallel(parts, async ({ name, args, env = {}, test }) => {
    if (test !== undefined && !await built.promise) return void left.push(test);
    const longest = test === undefined
      ? LIMIT
      : limit * (concern.nearest.has(test) ? NEAREST_TIMES : 1) - elapsed();
    const noted = times.get(test ?? "") ?? 0;
    if (interrupt.signal.aborted) return;
    if (test !== undefined && longest <= Math.abs(noted)) return void left.push(test);
    const ran = await runGroup([Deno.execPath(), ...args], {
      cwd: root,
      env: { NO_COLOR: "1", ...env },
      limit: longest,
      signal: interrupt.signal,
    });
    if (name === "build") built.resolve(ran.success);
    if (interrupt.signal.aborted) return;
    const isEndless = ran.timedOut && (test === undefined || (noted > 0 && ran.seconds > PATIENCE * noted));
    if (test !== undefined && ran.success) times.set(test, ran.seconds);
    else if (test !== undefined && ran.timedOut && !isEndless) times.set(test, -ran.seconds);
    if (ran.timedOut && !isEndless) return void left.push(name);
    done++;
    writeLine(
      Deno.stdout,
      `${ran.success ? "ok    " : "FAILED"} ${ran.seconds.toFixed(1).padStart(5)} s  ${name}`,
    );
    if (ran.success) return;
    failed.push(name);
    const lines = ran.output.trimEnd().split("\n");
    writeLine(
      Deno.stdout,
      (ran.timedOut ? [`does not end in ${longest.toFixed()} s`] : lines.slice(-SHOWN_LINES)).join("\n"),
    );
  });
  if (interrupt.signal.aborted) return interrupt.code;

  await Deno.mkdir(`${root}/${TIMES}`.replace(/\/[^/]*$/, ""), { recursive: true });
  await writeAtomically(`${root}/${TIMES}`, JSON.stringify([...times]));
  if (left.length > 0) {
    const names = left.slice(0, SHOWN_NAMES).join(", ") + (left.length > SHOWN_NAMES ? ", …" : "");
    writeLine(
      Deno.stdout,
      `Left out${failed.includes("build") ? "" : ", for want of time"}: ${
        plural(left.length, "test file")
      } (${names})`,
    );
  }
  const what = failed.length === 0
    ? `All ${done} parts are well`
    : `${failed.length} of ${done} parts failed`;
  writeLine(Deno.stdout, `${what}; ${elapsed().toFixed(1)} s`);
  return failed.length === 0 ? EXIT.ok : EXIT_FAILED;
}

if (import.meta.main) await runTask(main, USAGE);
