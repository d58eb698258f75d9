/** `deno task notebooks`: runs the notebooks headless and checks their outputs. See `deno task notebooks --help`. */
import { fileURLToPath } from "node:url";
import { buildCpu, ensureBlas } from "../../../build.ts";
import { UsageError } from "../../../lib/errors.ts";
import { sayNearest } from "../../../lib/nearest.ts";
import { findChromium } from "../../../lib/plot/mod.ts";
import { plural } from "../../../lib/plural.ts";
import { exists, expectWritable, makeFolder, writeWhole } from "../../commands/cli/files.ts";
import { onOff, text, under } from "../../commands/cli/flags/flag.ts";
import { QUIET } from "../../commands/cli/flags/flags.ts";
import { textOf } from "../../commands/cli/flags/parse.ts";
import { formatDuration } from "../../commands/cli/output/progress.ts";
import { EXIT, runCommand, writeLine } from "../../commands/cli/task.ts";
import { type Asked, plainCommand } from "../../commands/run.ts";
import { executeNotebook, type ExecuteOptions } from "./execute.ts";
import { addStaticImages } from "./figures.ts";
import { ensureJupyter } from "./jupyter.ts";
import { digestCells, formatNotebook, readNotebook } from "./notebook.ts";
import { checkOutputs, checkSize } from "./outputs.ts";
import { checkCells } from "./static_checks.ts";

const FOLDER = fileURLToPath(new URL("../../../notebooks/", import.meta.url));
const pathOf = (name: string) => `${FOLDER}${name}.ipynb`;

/** A model as the notebooks find it from their own folder. @throws {UsageError} If it is a path and no file is there. */
function absolute(model: string): string {
  if (!/[\\/]|\.gguf$/i.test(model)) return model;
  if (!exists(model)) throw new UsageError(`Cannot use --model ${model}: found no such file`);
  return Deno.realPathSync(model);
}

/** Names of the notebooks that are meant, in order. @throws {UsageError} If a name fits none. */
export function chooseNotebooks(known: readonly string[], names: readonly string[]): string[] {
  const chosen = names.flatMap((name) => {
    const short = name.replace(/^.*[/\\]/, "").replace(/\.ipynb$/, "");
    const fitting = known.filter((own) => own.startsWith(short));
    if (fitting.length > 0) return fitting;
    throw new UsageError(
      `Cannot find notebook "${name}": expected one of ${known.join(", ")}${sayNearest(short, known)}`,
    );
  });
  return known.filter((name) => names.length === 0 || chosen.includes(name));
}

/** Runs a notebook and writes it to `out` with its outputs. @returns Problems, one line each. */
export async function processNotebook(options: ExecuteOptions): Promise<string[]> {
  const failure = await executeNotebook(options);
  if (failure !== undefined) return [failure];
  const notebook = await readNotebook(options.path), executed = await readNotebook(options.out);
  const problems = checkOutputs(executed);
  if (problems.length > 0) return problems;
  const metadata = { ...notebook.metadata, tokenfilter: { cells: await digestCells(notebook) } };
  const text = formatNotebook(await addStaticImages({ ...executed, metadata }));
  await writeWhole(options.out, text);
  return checkSize(text);
}

/** Checks and runs notebooks. @returns The exit code. */
async function work(_: undefined, { values, words: names, progress }: Asked): Promise<number> {
  const out = textOf(values, "out") ?? "results/notebooks",
    check = values.has("check"),
    update = values.has("update");
  const model = absolute(textOf(values, "model") ?? "tiny");
  if (update && model !== "tiny") {
    throw new UsageError(
      `Cannot use --update with --model ${model}: notebooks are kept with the outputs of tiny`,
    );
  }
  const known = Array.from(Deno.readDirSync(FOLDER), ({ name }) => name)
    .filter((name) => name.endsWith(".ipynb")).map((name) => name.slice(0, -".ipynb".length)).sort();
  const notebooks = await Promise.all(
    chooseNotebooks(known, names).map(async (name) => ({ name, notebook: await readNotebook(pathOf(name)) })),
  );
  const onProgress = (message: string) => progress.line(message);
  if (!check && findChromium() === undefined) {
    throw new UsageError(
      "Cannot draw figures: found no Chromium, expected one (install it, or set TOKENFILTER_CHROMIUM)",
    );
  }
  expectWritable(out);
  onProgress(`checking the cells of ${plural(notebooks.length, "notebook")}`);
  const problems = await checkCells(notebooks);
  if (problems.length === 0 && !check) {
    const [jupyter] = await Promise.all([
      ensureJupyter(onProgress),
      buildCpu({ onProgress }),
      ensureBlas({ onProgress }),
    ]);
    makeFolder(out);
    progress.start();
    for (const [i, { name, notebook }] of notebooks.entries()) {
      const onCell = (cell: number) =>
        progress.bar((i + cell / notebook.cells.length) / notebooks.length, `${name}: cell ${cell}`);
      const start = performance.now(), path = pathOf(name), executed = `${out}/${name}.ipynb`;
      const found = await processNotebook({ jupyter, path, out: executed, model, onCell });
      if (update && found.length === 0) await Deno.copyFile(executed, path);
      problems.push(...found.map((problem) => `${name}: ${problem}`));
      const state = found.length === 0 ? "ok" : plural(found.length, "problem");
      progress.line(`${name}: ${state}, ${formatDuration(performance.now() - start)}`);
    }
    progress.clear();
  }
  for (const problem of problems) writeLine(Deno.stderr, problem);
  if (problems.length > 0) return 1;
  if (!check) writeLine(Deno.stdout, `${plural(notebooks.length, "notebook")}: ${out}`);
  return EXIT.ok;
}

export const command = plainCommand({
  name: "notebooks",
  summary: "Checks the cells of each notebook (form, types, lint) and runs them with the Deno kernel.",
  usage: "[NAMES] [flags]",
  about:
    `Fails on any error, missing figure or empty output. Draws each figure as an image in Chromium, for readers
without scripts. NAMES are beginnings of names, such as 01 or 04_sweep; all notebooks where left out.`,
  words: { least: 0, most: Infinity },
  flags: {
    ...under("What runs", {
      model: text("tiny|smollm2-135m|FILE.gguf", "the model, as TOKENFILTER_MODEL for the notebooks (tiny)"),
      check: onOff("only check the cells, run nothing"),
    }),
    ...under("Results", {
      out: text("DIR", "folder for executed notebooks (results/notebooks)"),
      update: onOff("write the notebooks back with their outputs (only with the model tiny)"),
    }),
    ...QUIET,
  },
  permissions: "-A",
  read: () => undefined,
  work,
});

if (import.meta.main) await runCommand(command);
