/**
 * `deno task heads`: which heads are like the past, and whether the filter's rules find the tokens whose attention does
 * little. Writes `heads.json`, `trace.parquet` and `heads.html` to a folder. See `deno task heads --help`.
 */
import { UsageError } from "../lib/errors.ts";
import { cutChunks } from "../lib/eval/mod.ts";
import { HeadCollection, type HeadReport } from "../lib/heads/mod.ts";
import {
  effectiveOptions,
  isRule,
  methodOf,
  type ResolvedOptions,
  resolveOptions,
  type TokenFilterOptions,
} from "../lib/methods/mod.ts";
import { readPlotly, renderHeadsReport } from "../lib/plot/mod.ts";
import { describeConditions, describeStudy, encodeStudy } from "../lib/sweep/mod.ts";
import { openBackend, readBackend } from "./cli/backend.ts";
import { writeWhole } from "./cli/files.ts";
import { describeFlags } from "./cli/flags.ts";
import { Interrupt } from "./cli/interrupt.ts";
import { readAxes, tellHostRules } from "./cli/method.ts";
import { readModel, warnOfLength } from "./cli/model.ts";
import { type FlagValues, parseFlags } from "./cli/parse.ts";
import { Progress } from "./cli/progress.ts";
import { readDestination, tellInterrupted } from "./cli/resume.ts";
import { formatTable } from "./cli/table.ts";
import { checkFlags, EXIT, runTask, writeLine } from "./cli/task.ts";
import { readCount, readNamedText } from "./cli/text.ts";
import { ChunkFiles } from "./heads/chunk_files.ts";
import { tabulateRules } from "./heads/rule_table.ts";
import { traceInfo, writeTrace } from "./heads/trace_file.ts";

const USAGE = `Usage: deno task heads [flags]

Runs the dense model over a text and measures, for every layer and KV head, how like the past keys and values are, and
how well each rule's score ranks the tokens by their true redundancy: a table on stdout, and heads.json, trace.parquet
and heads.html in --out. The method's flags say whose decisions are shown; nothing is skipped. Takes some 4 kB of memory
for each token and layer. Ctrl-C keeps finished chunks; --resume goes on.

${describeFlags("heads")}`;

const PROTOCOL =
  "One token stream with one BOS at its start where the tokenizer adds one; disjoint chunks of the context length, the " +
  "tail dropped, each a sequence of its own. Dense stream: no token is skipped; r = norm(attention block's output) / " +
  "norm(residual stream before it). Redundant: the lowest share rho of r among a layer's tokens past the warm-up. AUROC " +
  "and Spearman's correlation (with -r) over these tokens; intervals: percentiles over resamples of blocks that overlap " +
  "and wrap round within a chunk, the same for all layers and rules. The learned rule is fitted on the tokens that it " +
  "would itself keep, with their features and outcomes in the dense stream.";

/** Folder of finished chunks; gone when the run is over. */
const WORK = "chunks";

/** Share of the work that is the model's; the rest is statistics. */
const MODEL_SHARE = 0.6;

/** What was asked for, checked. */
interface Request {
  readonly method: ResolvedOptions;
  readonly context: number;
  readonly tokens: number | undefined;
  readonly resamples: number;
  readonly folder: string;
}

async function readRequest(values: FlagValues): Promise<Request> {
  const axes = Object.entries(await readAxes("heads", values)).map((
    [name, list],
  ) => [name, (list as unknown[])[0]]);
  const method = checkFlags(() => resolveOptions({ tail: 1, ...Object.fromEntries(axes) }));
  const { fusion } = method;
  if (fusion === "oracle") {
    throw new UsageError("Cannot use --fusion oracle: the oracle is what the rules are measured against");
  }
  if (!isRule(methodOf(fusion))) {
    throw new UsageError(
      `Cannot use --fusion ${fusion}: expected a rule, since heads measures what rules score`,
    );
  }
  return {
    method,
    context: readCount(values, "context", 2) ?? 512,
    tokens: readCount(values, "tokens", 2),
    resamples: readCount(values, "resamples", 1) ?? 1000,
    folder: readDestination(values, { noun: "chunks of a run", work: WORK, result: "heads.json" }),
  };
}

/** Runs the task. @returns The exit code. */
export async function main(args: readonly string[]): Promise<number> {
  const values = parseFlags("heads", args, false);
  // Everything that a user gave is checked before anything is obtained, built or written.
  const progress = new Progress(values.has("quiet") ? undefined : Deno.stderr);
  const request = readBackend(values);
  const asked = await readRequest(values);
  const { method, context, tokens, folder } = asked;
  const { name: textName, text } = await readNamedText(values);
  // A token takes at least one byte: what is too short in bytes is too short in tokens.
  cutChunks(new Int32Array(Math.min(tokens ?? Infinity, new TextEncoder().encode(text).length + 1)), context);

  const file = await readModel((values.get("model")?.[0] ?? "tiny") as string, progress);
  const plan = { model: file, text, textName, context, ...(tokens !== undefined && { tokens }) };
  const ids = encodeStudy(plan);
  const chunks = cutChunks(ids, context).length;
  warnOfLength(context, file.config);
  const decisions = chunks * context * file.config.numLayers;
  const warning = warningOfMemory(decisions, Deno.systemMemoryInfo().available);
  if (warning !== undefined) writeLine(Deno.stderr, warning);
  const backend = await openBackend(request, progress);
  tellHostRules(progress, backend, [method]);
  const model = file.open(backend, request);
  const environment = {
    ...await describeStudy({ ...plan, model: { ...file, model } }),
    protocol: PROTOCOL,
  };
  const heads = checkFlags(() =>
    new HeadCollection(model, ids, {
      filter: method as TokenFilterOptions,
      context,
      bootstrap: { resamples: asked.resamples },
    })
  );
  using interrupt = new Interrupt();
  const conditions = await describeConditions(plan, backend.name, request.cacheDType);
  const store = await ChunkFiles.open(`${folder}/${WORK}`, conditions, method);
  const work = MODEL_SHARE * (1 - heads.resume(store) / chunks);
  /** The model's share of what is left. */
  const share = work / (work + 1 - MODEL_SHARE);
  progress.line(
    `${heads.layers.length} layers on ${chunks * context} tokens of ${textName}; ${backend.description}`,
  );
  progress.start();
  const watch = (from: number, to: number) => (fraction: number, label: string) =>
    progress.step(from + (to - from) * fraction, label);
  try {
    const { signal } = interrupt;
    await heads.run({ signal, onProgress: watch(0, share) });
    const report = await heads.report(
      environment,
      effectiveOptions(method),
      (piece) => file.tokenizer.texts(piece),
      { signal, onProgress: watch(share, 1) },
    );
    const page = renderHeadsReport(report, { plotly: await readPlotly() });
    const { version, cacheDType } = environment;
    const rest = {
      version,
      cacheDType,
      stream: "dense",
      queries: false,
      phase: "prefill",
      piece: null,
    } as const;
    await writeTrace(`${folder}/trace.parquet`, heads.decisions(), traceInfo(file, method, rest));
    await writeWhole(`${folder}/heads.html`, page);
    await writeWhole(`${folder}/heads.json`, formatReport(report));
    await store.remove();
    progress.clear();
    writeLine(Deno.stdout, values.has("json") ? formatReport(report).trimEnd() : summarize(report, folder));
    return EXIT.ok;
  } catch (error) {
    if (!interrupt.caused(error)) throw error;
    progress.clear();
    tellInterrupted({ task: "heads", args, folder, work: WORK, finished: store.finished, noun: "chunk" });
    return interrupt.code;
  }
}

/** Bytes that a token of a layer takes: its cosines, scores and moments, and its row of the trace. */
const BYTES_OF_DECISION = 4000;

/** What to say where a machine with so many free bytes may have too few for so many tokens of layers. */
export function warningOfMemory(decisions: number, available: number): string | undefined {
  const needed = decisions * BYTES_OF_DECISION;
  if (needed < available) return undefined;
  const [more, less] = [needed, available].map((bytes) => `${(bytes / 1e9).toFixed(1)} GB`);
  return `Warning: this takes some ${more} of memory, and ${less} are free (take fewer --tokens)`;
}

/** A report as JSON, numbers to nine digits. */
function formatReport(report: HeadReport): string {
  const short = (_: string, value: unknown) =>
    typeof value === "number" && !Number.isInteger(value) ? Number(value.toPrecision(9)) : value;
  return JSON.stringify(report, short) + "\n";
}

function summarize(report: HeadReport, folder: string): string {
  const { environment, layers } = report;
  const chunks = environment.textTokens / environment.context;
  const shares = [...new Set(layers.map(({ skipRatio }) => `${(100 * skipRatio).toFixed(0)}%`))];
  return `${formatTable(tabulateRules(report))}\n\nMeans over ${layers.length} ${
    layers.length === 1 ? "layer" : "layers"
  } of ${environment.model} on ${environment.text}: ${chunks} ${
    chunks === 1 ? "chunk" : "chunks"
  } of ${environment.context} tokens. AUROC of finding the ${
    shares.length === 1 ? shares[0] : `${shares[0]} to ${shares.at(-1)} (by layer)`
  } of tokens of least r; Spearman's correlation with -r. 1 = as the oracle.\nReport: ${folder}/heads.html`;
}

if (import.meta.main) await runTask(main, USAGE);
