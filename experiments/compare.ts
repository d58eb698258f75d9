/**
 * `deno task compare`: several methods at the same ratio on the same text, with intervals of their differences.
 *
 * Writes `compare.json` and `compare.html` to a folder, and keeps finished runs there until then. See
 * `deno task compare --help`.
 */
import { UsageError } from "../lib/errors.ts";
import { cutChunks, findTask } from "../lib/eval/mod.ts";
import type { FilterShape } from "../lib/filter/mod.ts";
import { readPlotly, renderComparisonReport, tabulateComparison } from "../lib/plot/mod.ts";
import { createPruner } from "../lib/methods/mod.ts";
import {
  COMPARED_LINES,
  COMPARED_METHODS,
  comparedMethods,
  compareStudy,
  describeConditions,
  digestConditions,
  encodeStudy,
  type NamedMethod,
  RunLog,
} from "../lib/sweep/mod.ts";
import { openBackend, readBackend } from "./cli/backend.ts";
import { makeFolder, writeWhole } from "./cli/files.ts";
import { describeFlags } from "./cli/flags.ts";
import { Interrupt } from "./cli/interrupt.ts";
import { readAxes, tellHostRules } from "./cli/method.ts";
import { knownLayers, readModel, warnOfLength } from "./cli/model.ts";
import { type FlagValues, parseFlags } from "./cli/parse.ts";
import { Progress } from "./cli/progress.ts";
import { readDestination, tellInterrupted } from "./cli/resume.ts";
import { formatTable } from "./cli/table.ts";
import { checkFlags, EXIT, runTask, writeLine } from "./cli/task.ts";
import { readCount, readNamedText } from "./cli/text.ts";

const USAGE = `Usage: deno task compare [flags]

Runs several methods at the same share of skipped attention on the same text, and shows their losses against the dense
model and against chance, with intervals over resampled blocks of the text: a table on stdout, and compare.json and
compare.html in --out. Flags of the method are shared by all; --methods says which ones run, in place of --fusion,
--invert and --preset ("paper" keeps its recent window of 0). Ctrl-C keeps finished runs; --resume goes on.

${describeFlags("compare")}`;

/** File of finished runs; gone when the comparison is over. */
const WORK = "methods.jsonl";

/** Flags whose place --methods takes. */
const REPLACED = ["fusion", "invert", "preset"];

async function readMethods(values: FlagValues): Promise<NamedMethod[]> {
  const wrong = REPLACED.find((name) => values.has(name));
  if (wrong !== undefined) {
    throw new UsageError(
      `Cannot use --${wrong} in a comparison: expected --methods, as in --methods random,learned`,
    );
  }
  const seeds = readCount(values, "seeds", 1) ?? 5;
  const given = values.get("methods")?.[0] as string | undefined;
  const names = given === undefined ? COMPARED_METHODS : given.split(",").map((name) => name.trim());
  const axes = await readAxes("compare", values);
  const base = Object.fromEntries(Object.entries(axes).map(([name, list]) => [name, (list as unknown[])[0]]));
  return checkFlags(() => comparedMethods(names, base, seeds));
}

/** Binds every method to a model's shape, to find schedules that it cannot reach. */
function checkPlans(methods: readonly NamedMethod[], shape: FilterShape): void {
  checkFlags(() => methods.forEach(({ options }) => createPruner("token-filtering", shape, options)));
}

/** Runs the task. @returns The exit code. */
export async function main(args: readonly string[]): Promise<number> {
  const values = parseFlags("compare", args, false);
  // Everything that a user gave is checked before anything is obtained, built or written.
  const progress = new Progress(values.has("quiet") ? undefined : Deno.stderr);
  const request = readBackend(values);
  const task = checkFlags(() => findTask(values.get("task")?.[0] as string | undefined));
  const context = readCount(values, "context", 2) ?? 512;
  const tokens = readCount(values, "tokens", 2);
  const methods = await readMethods(values);
  const { name: textName, text } = await readNamedText(values);
  const folder = readDestination(values, { noun: "a comparison", work: WORK, result: "compare.json" });
  const modelName = (values.get("model")?.[0] ?? "tiny") as string;
  const layers = knownLayers(modelName);
  if (layers !== undefined) {
    checkPlans(methods, { numLayers: layers, numHeads: 1, numKvHeads: 1, headDim: 1, hiddenSize: 1 });
  }
  // A token takes at least one byte: what is too short in bytes is too short in tokens.
  cutChunks(new Int32Array(Math.min(tokens ?? Infinity, new TextEncoder().encode(text).length + 1)), context);

  const file = await readModel(modelName, progress);
  checkPlans(methods, file.config);
  warnOfLength(context, file.config);
  const plan = { model: file, task, text, textName, context, ...(tokens !== undefined && { tokens }) };
  const logPath = `${folder}/${WORK}`;
  const digestOn = async (backend: string) =>
    await digestConditions(await describeConditions(plan, backend, request.cacheDType));
  if (request.choice !== "auto") RunLog.read(logPath, await digestOn(request.choice), COMPARED_LINES);
  const backend = await openBackend(request, progress);
  tellHostRules(progress, backend, methods.map(({ options }) => options));
  const study = { ...plan, model: { ...file, model: file.open(backend, request) } };
  const runDigest = await digestOn(backend.name);
  const chunks = cutChunks(encodeStudy(study), context).length;
  // Listens before the first line is out: who reads it may stop the task.
  using interrupt = new Interrupt();
  const runs = `${methods.length} ${methods.length === 1 ? "run" : "runs"}`;
  progress.line(`${runs} on ${chunks * context} tokens of ${textName}; ${backend.description}`);
  progress.start();
  let before = "";
  makeFolder(folder);
  try {
    using log = RunLog.open(logPath, runDigest, COMPARED_LINES);
    const comparison = await compareStudy(study, methods, {
      log,
      signal: interrupt.signal,
      onProgress: (fraction, name) => {
        progress.bar(fraction, name);
        if (name !== before && !progress.isTerminal) {
          progress.line([name, progress.eta(fraction)].filter((part) => part !== "").join(": "));
        }
        before = name;
      },
    });
    progress.clear();
    const html = renderComparisonReport(comparison, { plotly: await readPlotly() });
    await writeWhole(`${folder}/compare.html`, html);
    await writeWhole(`${folder}/compare.json`, JSON.stringify(comparison, null, 2) + "\n");
    await Deno.remove(logPath);
    if (values.has("json")) {
      writeLine(Deno.stdout, JSON.stringify(comparison, null, 2));
      return EXIT.ok;
    }
    writeLine(Deno.stdout, formatTable(tabulateComparison(comparison)));
    writeLine(
      Deno.stdout,
      `\n95% intervals in brackets; ^ looks ahead (an upper bound). ${file.name} on ${textName}: ${chunks} ${
        chunks === 1 ? "chunk" : "chunks"
      } of ${context} tokens.\nReport: ${folder}/compare.html`,
    );
    return EXIT.ok;
  } catch (error) {
    if (!interrupt.caused(error)) throw error;
    progress.clear();
    const finished = RunLog.read(logPath, runDigest, COMPARED_LINES).length;
    tellInterrupted({ task: "compare", args, folder, work: WORK, finished, noun: "run" });
    return interrupt.code;
  }
}

if (import.meta.main) await runTask(main, USAGE);
