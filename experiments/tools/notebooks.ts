/**
 * `deno task notebooks`: runs the notebooks headless, checks their outputs, and makes pages of them.
 * See `deno task notebooks --help`.
 */
import { UsageError } from "../../lib/errors.ts";
import { sayNearest } from "../../lib/nearest.ts";
import { findChromium } from "../../lib/plot/mod.ts";
import { plural } from "../../lib/plural.ts";
import { openBrowser } from "./browser/mod.ts";
import { exists, expectWritable, makeFolder } from "../commands/cli/files.ts";
import { Interrupt } from "../commands/cli/run/interrupt.ts";
import { parseOwnFlags, readInteger } from "../commands/cli/flags/parse.ts";
import { formatDuration, Progress } from "../commands/cli/output/progress.ts";
import { EXIT, runTask, writeLine } from "../commands/cli/task.ts";
import { ensureJupyter } from "./notebooks/jupyter.ts";
import { prepareKernels } from "./notebooks/kernels.ts";
import { readNotebook } from "./notebooks/notebook.ts";
import { type ProcessArguments, processNotebook } from "./notebooks/process.ts";
import { checkNotebooks, formatCells, type NamedNotebook } from "./notebooks/static_checks.ts";

const FOLDER = decodeURIComponent(new URL("../../notebooks/", import.meta.url).pathname);
export const USAGE = `Usage: deno task notebooks [NAMES] [flags]

Checks the cells of each notebook (form, format, types, lint) and runs them with the Deno kernel. Fails on any error,
missing figure or empty output. Makes a page of each, and checks it in a headless Chromium where there is one.
NAMES are beginnings of names, such as 01 or 04_sweep; all notebooks where left out.

  --model tiny|smollm2-135m|FILE.gguf
      the model, as TOKENFILTER_MODEL for the notebooks (tiny)
  --repeat N
      runs of each, with fresh kernels; all must give the same outputs (1)
  --out DIR
      folder for executed notebooks, pages and screenshots (results/notebooks)
  --check
      only check the cells, run nothing
  --update
      format the cells, and write the notebooks back with their outputs (needs Chromium; only with the model tiny)
  --browser
      fail where there is no Chromium
  --quiet
      no progress on stderr
  --help
      print this`;

type Options = ReturnType<typeof readOptions>;

function readOptions(args: readonly string[]) {
  const { _: names, repeat = "1", ...parsed } = parseOwnFlags(
    args,
    ["model", "repeat", "out"],
    ["check", "update", "browser", "quiet"],
    true,
  );
  const { out = "results/notebooks", check, update, browser, quiet } = parsed;
  const model = absolute(parsed.model ?? "tiny");
  if (update && model !== "tiny") {
    throw new UsageError(
      `Cannot use --update with --model ${model}: notebooks are kept with the outputs of tiny`,
    );
  }
  return { names, model, repeat: readInteger("repeat", repeat, 1), out, check, update, browser, quiet };
}

/** A model as the notebooks find it from their own folder. @throws {UsageError} If it is a path and no file is there. */
function absolute(model: string): string {
  if (!/[\\/]|\.gguf$/i.test(model)) return model;
  if (!exists(model)) throw new UsageError(`Cannot use --model ${model}: found no such file`);
  return Deno.realPathSync(model);
}

/** Names of the notebooks that are meant, in order. @throws {UsageError} If a name fits none. */
export function chooseNotebooks(known: readonly string[], names: readonly string[]): string[] {
  const chosen = new Set<string>();
  for (const name of names) {
    const short = name.replace(/^.*[/\\]/, "").replace(/\.ipynb$/, "");
    const fitting = known.filter((own) => own.startsWith(short));
    if (fitting.length === 0) {
      throw new UsageError(
        `Cannot find notebook "${name}": expected one of ${known.join(", ")}${sayNearest(short, known)}`,
      );
    }
    fitting.forEach((own) => chosen.add(own));
  }
  return names.length === 0 ? [...known] : known.filter((name) => chosen.has(name));
}

async function readNotebooks(names: readonly string[]): Promise<NamedNotebook[]> {
  const known = [...Deno.readDirSync(FOLDER)].map(({ name }) => name)
    .filter((name) => name.endsWith(".ipynb")).map((name) => name.slice(0, -".ipynb".length)).sort();
  return await Promise.all(
    chooseNotebooks(known, names).map(async (name) => ({
      name,
      notebook: await readNotebook(`${FOLDER}${name}.ipynb`),
    })),
  );
}

/** Prints problems on stderr. @returns The exit code. */
function report(problems: readonly string[]): number {
  for (const problem of problems) writeLine(Deno.stderr, problem);
  return problems.length === 0 ? EXIT.ok : 1;
}

/** Runs the task. @returns The exit code. */
export async function main(args: readonly string[]): Promise<number> {
  const options = readOptions(args);
  const progress = new Progress(options.quiet ? undefined : Deno.stderr);
  using interrupt = new Interrupt();
  try {
    return await work(options, progress, interrupt.signal);
  } catch (error) {
    if (!interrupt.signal.aborted) throw error;
    progress.clear();
    writeLine(Deno.stderr, "Interrupted: nothing is half-written");
    return interrupt.code;
  }
}

async function work(options: Options, progress: Progress, signal: AbortSignal): Promise<number> {
  const hasChromium = findChromium() !== undefined;
  if ((options.browser || options.update) && !hasChromium) {
    throw new UsageError(
      "Cannot draw figures and look at pages: found no Chromium, expected one (install it, or set TOKENFILTER_CHROMIUM)",
    );
  }
  expectWritable(options.out);
  let notebooks = await readNotebooks(options.names);
  if (options.update) {
    const formatted = await formatCells(notebooks.map(({ notebook }) => notebook));
    notebooks = notebooks.map(({ name }, i) => ({ name, notebook: formatted[i]! }));
  }
  progress.line(`checking the cells of ${plural(notebooks.length, "notebook")}`);
  const wrong = await checkNotebooks(notebooks);
  signal.throwIfAborted();
  if (wrong.length > 0 || options.check) return report(wrong);

  const onProgress = (message: string) => progress.line(message);
  const [jupyter] = await Promise.all([ensureJupyter({ onProgress }), prepareKernels(onProgress)]);
  signal.throwIfAborted();
  makeFolder(options.out);
  await using browser = hasChromium ? await openBrowser() : undefined;
  const problems = await processAll(options, notebooks, { jupyter, browser, progress, signal });
  progress.clear();
  if (!hasChromium) {
    progress.line("Not checked, for want of Chromium: static images of the figures, and pages in a browser");
  }
  const code = report(problems);
  if (code === EXIT.ok) {
    writeLine(Deno.stdout, `Pages of ${plural(notebooks.length, "notebook")}: ${options.out}`);
  }
  return code;
}

/** Runs one notebook after the other. @returns Problems, one line each. */
async function processAll(
  options: Options,
  notebooks: readonly NamedNotebook[],
  { progress, ...tools }: Pick<ProcessArguments, "jupyter" | "browser" | "signal"> & {
    readonly progress: Progress;
  },
): Promise<string[]> {
  const problems: string[] = [];
  progress.start();
  for (const [i, { name, notebook }] of notebooks.entries()) {
    const done = await processNotebook({
      ...options,
      ...tools,
      name,
      notebook,
      folder: FOLDER,
      onProgress: (fraction, label) => progress.bar((i + fraction) / notebooks.length, `${name}: ${label}`),
    });
    problems.push(...done.problems.map((problem) => `${name}: ${problem}`));
    const state = done.problems.length === 0 ? "ok" : `${done.problems.length} problems`;
    progress.line(`${name}: ${state}, ${done.figures} figures, ${describeTimes(done.seconds)}`);
  }
  return problems;
}

/** `4.1 s`, or of several runs the median and the longest. */
export function describeTimes(seconds: readonly number[]): string {
  if (seconds.length === 0) return "no run finished";
  if (seconds.length === 1) {
    return seconds[0]! < 60 ? `${seconds[0]!.toFixed(1)} s` : formatDuration(1000 * seconds[0]!);
  }
  const sorted = [...seconds].sort((a, b) => a - b);
  const median = sorted[Math.floor(sorted.length / 2)]!;
  return `${seconds.length} runs, median ${median.toFixed(1)} s, longest ${sorted.at(-1)!.toFixed(1)} s`;
}

if (import.meta.main) await runTask(main, USAGE);
