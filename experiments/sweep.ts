/**
 * `deno task sweep`: how the filter's options trade perplexity for skipped attention.
 *
 * Runs a grid of options on one model and text, and writes `trials.jsonl` (a line a trial, as it ends),
 * `summary.json` and `report.html` to a folder. See `deno task sweep --help`.
 */
import { cutChunks, type EvaluationTask, findTask, formatMetric, readMetric } from "../lib/eval/mod.ts";
import type { FilterShape } from "../lib/filter/mod.ts";
import { readPlotly, renderSweepReport, ruleName, tabulateTrials } from "../lib/plot/mod.ts";
import { createPruner, type ResolvedOptions } from "../lib/methods/mod.ts";
import {
  DEFAULT_GRID,
  describeConditions,
  describeStudy,
  digestConditions,
  encodeStudy,
  openStudy,
  RunLog,
  runSweep,
  summarizeSweep,
  type SweepProgress,
  trialLines,
} from "../lib/sweep/mod.ts";
import { openBackend, readBackend } from "./cli/backend.ts";
import { makeFolder, writeWhole } from "./cli/files.ts";
import { describeFlags } from "./cli/flags.ts";
import { readSweepGrids, readTrials, tellHostRules } from "./cli/method.ts";
import { Interrupt } from "./cli/interrupt.ts";
import { knownLayers, readModel, warnOfLength } from "./cli/model.ts";
import { parseFlags } from "./cli/parse.ts";
import { Progress } from "./cli/progress.ts";
import { readDestination, tellInterrupted } from "./cli/resume.ts";
import { formatTable } from "./cli/table.ts";
import { checkFlags, EXIT, runTask, writeLine } from "./cli/task.ts";
import { readCount, readNamedText } from "./cli/text.ts";

const USAGE = `Usage: deno task sweep [flags]

Runs a grid of filter options and shows how they trade perplexity for skipped attention: a table on stdout, and
trials.jsonl, summary.json and report.html in --out. Flags of the method take lists: --tau 0,1,2. Without any,
a grid of all main rules runs. Options without effect under a rule do not multiply its trials. Ctrl-C keeps finished
trials; --resume goes on.

${describeFlags("sweep")}`;

function tellProgress(progress: Progress, { headline }: EvaluationTask): (state: SweepProgress) => void {
  return ({ done, total, fraction, trial }) => {
    const count = `${done}/${total} trials`;
    if (trial === undefined) {
      progress.bar(fraction, count);
      return;
    }
    const value = formatMetric(headline, readMetric(trial, headline.name));
    const result = `${ruleName(trial)} ${trial.pruneRatio}: ${headline.name} ${value}`;
    progress.bar(fraction, `${count}  ${result}`);
    const left = fraction < 1 ? `, ${progress.eta(fraction)}` : "";
    if (!progress.isTerminal) progress.line(`[${done}/${total}] ${result}${left}`);
  };
}

/** Runs the task. @returns The exit code. */
export async function main(args: readonly string[]): Promise<number> {
  const values = parseFlags("sweep", args, true);
  // Everything that a user gave is checked before anything is obtained, built or written.
  const progress = new Progress(values.has("quiet") ? undefined : Deno.stderr);
  const request = readBackend(values);
  const task = checkFlags(() => findTask(values.get("task")?.[0] as string | undefined));
  const context = readCount(values, "context", 2) ?? 512;
  const tokens = readCount(values, "tokens", 2);
  const grids = await readSweepGrids(values) ?? DEFAULT_GRID;
  const methods = readTrials(values, grids);
  const { name: textName, text } = await readNamedText(values);
  const folder = readDestination(values, { noun: "a sweep", work: "trials.jsonl" });
  const modelName = (values.get("model")?.[0] ?? "tiny") as string;
  const layers = knownLayers(modelName);
  if (layers !== undefined) {
    checkPlans(methods, { numLayers: layers, numHeads: 1, numKvHeads: 1, headDim: 1, hiddenSize: 1 });
  }
  // A token takes at least one byte: what is too short in bytes is too short in tokens.
  cutChunks(new Int32Array(Math.min(tokens ?? Infinity, new TextEncoder().encode(text).length + 1)), context);

  const file = await readModel(modelName, progress);
  checkPlans(methods, file.config);
  const plan = { model: file, task, text, textName, context, ...(tokens !== undefined && { tokens }) };
  const chunks = cutChunks(encodeStudy(plan), context);
  const logPath = `${folder}/trials.jsonl`, lines = trialLines(task);
  if (request.choice !== "auto") {
    RunLog.read(
      logPath,
      await digestConditions(await describeConditions(plan, request.choice, request.cacheDType)),
      lines,
    );
  }
  warnOfLength(context, file.config);

  const backend = await openBackend(request, progress);
  tellHostRules(progress, backend, methods);
  const model = file.open(backend, request);
  const study = { ...plan, model: { ...file, model } };
  const environment = await describeStudy(study);
  progress.line(
    `${methods.length} ${methods.length === 1 ? "trial" : "trials"} on ${
      chunks.length * context
    } tokens of ${textName}; ${backend.description}`,
  );
  makeFolder(folder);
  const evaluation = openStudy(study);
  progress.start();
  using interrupt = new Interrupt();
  try {
    using log = RunLog.open(logPath, environment.runDigest, lines);
    const trials = await runSweep({
      methods,
      evaluation,
      createPruner: (method) => createPruner("token-filtering", model.config, method, { backend }),
      conditions: await describeConditions(plan, backend.name, request.cacheDType),
      log,
      signal: interrupt.signal,
      onProgress: tellProgress(progress, task),
    });
    const summary = summarizeSweep(trials, await evaluation.dense(), environment);
    await writeWhole(`${folder}/summary.json`, JSON.stringify(summary, null, 2) + "\n");
    await writeWhole(`${folder}/report.html`, renderSweepReport(summary, { plotly: await readPlotly() }));
    progress.clear();
    if (values.has("json")) {
      writeLine(Deno.stdout, JSON.stringify(summary, null, 2));
    } else {
      writeLine(Deno.stdout, formatTable(tabulateTrials(summary.trials)));
      writeLine(
        Deno.stdout,
        `\n* on the Pareto front, ^ looks ahead (an upper bound). ${file.name} on ${textName}: ` +
          `${chunks.length} ${
            chunks.length === 1 ? "chunk" : "chunks"
          } of ${context} tokens, dense ${task.headline.name} ${
            formatMetric(task.headline, readMetric(summary.dense, task.headline.name))
          }.\n` +
          `Report: ${folder}/report.html`,
      );
    }
    return EXIT.ok;
  } catch (error) {
    if (!interrupt.caused(error)) throw error;
    progress.clear();
    const finished = RunLog.read(logPath, environment.runDigest, lines).length;
    tellInterrupted({ task: "sweep", args, folder, work: "trials.jsonl", finished, noun: "trial" });
    return interrupt.code;
  }
}

/** Binds every method to a model's shape, to find schedules that it cannot reach. */
function checkPlans(
  methods: readonly ResolvedOptions[],
  shape: FilterShape,
): void {
  checkFlags(() => methods.forEach((method) => createPruner("token-filtering", shape, method)));
}

if (import.meta.main) await runTask(main, USAGE);
