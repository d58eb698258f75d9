/**
 * `deno task sweep`: how the filter's options trade perplexity for skipped attention.
 *
 * Runs a grid of options on one model and text, and writes `trials.jsonl` (a line a trial, as it ends),
 * `summary.json` and `report.html` to a folder. See `deno task sweep --help`.
 */
import {
  createTrialPruner,
  cutChunks,
  DEFAULT_GRID,
  describeConditions,
  describeStudy,
  digestConditions,
  encodeStudy,
  PerplexityEvaluation,
  readPlotly,
  renderSweepReport,
  type ResolvedTrialOptions,
  ruleName,
  runSweep,
  summarizeSweep,
  type SweepProgress,
  tabulateTrials,
  TrialLog,
  UsageError,
} from "../mod.ts";
import { openBackend, readBackend } from "./cli/backend.ts";
import { exists, expectWritable, makeFolder, writeWhole } from "./cli/files.ts";
import { describeFlags } from "./cli/flags.ts";
import { readSweepGrids, readTrials } from "./cli/method.ts";
import { Interrupt } from "./cli/interrupt.ts";
import { knownLayers, readModel } from "./cli/model.ts";
import { type FlagValues, parseFlags } from "./cli/parse.ts";
import { Progress } from "./cli/progress.ts";
import { newResultsFolder } from "./cli/results.ts";
import { formatTable } from "./cli/table.ts";
import { checkFlags, EXIT, runTask, writeLine } from "./cli/task.ts";
import { readCount, readNamedText } from "./cli/text.ts";

const USAGE = `Usage: deno task sweep [flags]

Runs a grid of filter options and shows how they trade perplexity for skipped attention: a table on stdout, and
trials.jsonl, summary.json and report.html in --out. Flags of the method take lists: --tau 0,1,2. Without any,
a grid of all main rules runs. Options without effect under a rule do not multiply its trials.

${describeFlags("sweep")}`;

/** Where results go, and whether a sweep there goes on. */
interface Destination {
  readonly folder: string;
  readonly resume: boolean;
}

function readDestination(values: FlagValues): Destination {
  const out = values.get("out")?.[0] as string | undefined;
  const resume = values.get("resume")?.[0] as string | undefined;
  if (resume && out && resume !== out) {
    throw new UsageError(`Cannot use --resume "${resume}" with --out "${out}": expected one folder`);
  }
  const folder = resume || out || (resume === undefined ? newResultsFolder() : "");
  if (folder === "") throw new UsageError("Cannot use --resume: found no folder, expected --resume DIR");
  const held = exists(`${folder}/trials.jsonl`);
  if (resume !== undefined && !held) {
    throw new UsageError(`Cannot go on with "${folder}": found no trials.jsonl there (leave --resume out)`);
  }
  if (resume === undefined && held) {
    throw new UsageError(
      `Cannot write to "${folder}": it holds a sweep (go on with --resume, or take another --out)`,
    );
  }
  expectWritable(folder);
  return { folder, resume: resume !== undefined };
}

/** The command that goes on with an interrupted sweep. */
function resumeCommand(args: readonly string[], folder: string): string {
  const kept: string[] = [];
  for (let i = 0; i < args.length; i++) {
    if (/^--(out|resume)(=|$)/.test(args[i]!)) {
      if (!args[i]!.includes("=") && args[i + 1] !== undefined && !args[i + 1]!.startsWith("--")) i++;
    } else kept.push(args[i]!);
  }
  const quoted = [...kept, "--resume", folder].map((arg) =>
    /^[\w./=,+-]+$/.test(arg) ? arg : `'${arg.replaceAll("'", "'\\''")}'`
  );
  return `deno task sweep ${quoted.join(" ")}`;
}

function tellProgress(progress: Progress): (state: SweepProgress) => void {
  return ({ done, total, fraction, trial }) => {
    const count = `${done}/${total} trials`;
    if (trial === undefined) {
      progress.bar(fraction, count);
      return;
    }
    const result = `${ruleName(trial)} ${trial.pruneRatio}: perplexity ${trial.perplexity.toFixed(2)}`;
    progress.bar(fraction, `${count}  ${result}`);
    const left = fraction < 1 ? `, ${progress.eta(fraction)}` : "";
    if (!progress.isTerminal) progress.line(`[${done}/${total}] ${result}${left}`);
  };
}

/** Runs the task. @returns The exit code. */
export async function main(args: readonly string[]): Promise<number> {
  const values = parseFlags("sweep", args, true);
  if (values.has("help")) {
    writeLine(Deno.stdout, USAGE);
    return EXIT.ok;
  }
  // Everything that a user gave is checked before anything is obtained, built or written.
  const progress = new Progress(values.has("quiet") ? undefined : Deno.stderr);
  const request = readBackend(values);
  const context = readCount(values, "context", 2) ?? 512;
  const tokens = readCount(values, "tokens", 2);
  const grids = await readSweepGrids(values) ?? DEFAULT_GRID;
  const methods = readTrials(values, grids);
  const { name: textName, text } = await readNamedText(values);
  const { folder } = readDestination(values);
  const modelName = (values.get("model")?.[0] ?? "tiny") as string;
  const layers = knownLayers(modelName);
  if (layers !== undefined) {
    checkPlans(methods, { numLayers: layers, numHeads: 1, numKvHeads: 1, headDim: 1, hiddenSize: 1 });
  }
  // A token takes at least one byte: what is too short in bytes is too short in tokens.
  cutChunks(new Int32Array(Math.min(tokens ?? Infinity, new TextEncoder().encode(text).length + 1)), context);

  const model = await readModel(modelName, progress);
  checkPlans(methods, model.config);
  const plan = { model, text, textName, context, ...(tokens !== undefined && { tokens }) };
  const ids = encodeStudy(plan);
  const chunks = cutChunks(ids, context);
  const logPath = `${folder}/trials.jsonl`;
  if (request.choice !== "auto") {
    TrialLog.read(logPath, await digestConditions(await describeConditions(plan, request.choice)));
  }
  if (context > model.config.contextLength) {
    writeLine(
      Deno.stderr,
      `Warning: chunks of ${context} tokens; the model was trained on ${model.config.contextLength}`,
    );
  }

  const backend = await openBackend(request, progress);
  const llama = model.open(backend);
  const environment = await describeStudy({ ...plan, model: { ...model, llama } });
  progress.line(
    `${methods.length} ${methods.length === 1 ? "trial" : "trials"} on ${
      chunks.length * context
    } tokens of ${textName}; ${backend.description}`,
  );
  makeFolder(folder);
  const evaluation = new PerplexityEvaluation(llama, ids, { context });
  progress.start();
  using interrupt = new Interrupt();
  try {
    using log = TrialLog.open(logPath, environment.runDigest);
    const trials = await runSweep({
      methods,
      evaluation,
      createPruner: (method) => createTrialPruner(model.config, method, { backend }),
      conditions: await describeConditions(plan, backend.name),
      log,
      signal: interrupt.signal,
      onProgress: tellProgress(progress),
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
        `\n* on the Pareto front, ^ looks ahead (an upper bound). ${model.name} on ${textName}: ` +
          `${chunks.length} ${
            chunks.length === 1 ? "chunk" : "chunks"
          } of ${context} tokens, dense perplexity ${summary.dense.perplexity.toFixed(2)}.\n` +
          `Report: ${folder}/report.html`,
      );
    }
    return EXIT.ok;
  } catch (error) {
    if (!interrupt.caused(error)) throw error;
    progress.clear();
    const finished = TrialLog.read(logPath, environment.runDigest).length;
    writeLine(
      Deno.stderr,
      `Interrupted: ${finished} finished ${
        finished === 1 ? "trial is" : "trials are"
      } in ${logPath}. To go on: ${resumeCommand(args, folder)}`,
    );
    return interrupt.code;
  }
}

/** Binds every method to a model's shape, to find schedules that it cannot reach. */
function checkPlans(
  methods: readonly ResolvedTrialOptions[],
  shape: Parameters<typeof createTrialPruner>[0],
): void {
  checkFlags(() => methods.forEach((method) => createTrialPruner(shape, method)));
}

if (import.meta.main) await runTask(main);
