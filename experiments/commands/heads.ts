/**
 * `deno task heads`: which heads are like the past, and whether the filter's rules find the tokens whose attention does
 * little. Writes `heads.json`, `trace.parquet` and `heads.html` to a folder. See `deno task heads --help`.
 */
import { UsageError } from "../../lib/errors.ts";
import { HeadCollection, type HeadReport } from "../../lib/heads/mod.ts";
import {
  effectiveOptions,
  isRule,
  keyRuleOf,
  methodOf,
  type ResolvedOptions,
  resolveOptions,
  type TokenFilterOptions,
} from "../../lib/methods/mod.ts";
import { plural, readPlotly, renderHeadsReport } from "../../lib/plot/mod.ts";
import { describeStudy, encodeStudy } from "../../lib/sweep/mod.ts";
import { readBackend } from "./cli/backend.ts";
import { writeWhole } from "./cli/files.ts";
import { describeTask } from "./cli/flags.ts";
import { Interrupt } from "./cli/interrupt.ts";
import { expectScoresAlone, readAxes } from "./cli/method.ts";
import { type FlagValues, parseFlags } from "./cli/parse.ts";
import { Progress } from "./cli/progress.ts";
import { withRule } from "./cli/rule.ts";
import { claimFolder, endEarly, readDestination, saveResults } from "./cli/resume.ts";
import { countTokens, describePlan, type Plan, readPlan, startStudy } from "./cli/study.ts";
import { printTable, readTable } from "./cli/table.ts";
import { checkFlags, EXIT, runTask, writeLine } from "./cli/task.ts";
import { readCount } from "./cli/text.ts";
import { openChunkFiles } from "./heads/chunk_files.ts";
import { RULE_COLUMNS, tabulateRules } from "./heads/rule_table.ts";
import { traceInfo, writeTrace } from "./heads/trace_file.ts";

export const USAGE = describeTask(
  "heads",
  `deno task heads [flags]

Runs the dense model over a text and measures, for every layer and KV head, how like the past keys and values are, and
how well each rule's score ranks the tokens by their true redundancy: a table on stdout, and heads.json, trace.parquet
and heads.html in --out. The method's flags say whose decisions are shown; nothing is skipped. Takes some 4 kB of memory
for each token and layer. Ctrl-C keeps finished chunks; --resume goes on.`,
  [
    "",
    "--model smollm2-135m --tokens 4096 --out results/heads",
    "--text FILE --fusion learned --context 256",
  ],
);

const PROTOCOL =
  "One token stream with one BOS at its start where the tokenizer adds one; disjoint chunks of the context length, the " +
  "tail dropped, each a sequence of its own. Dense stream: no token is skipped; r = norm(attention block's output) / " +
  "norm(residual stream before it). Redundant: the lowest share rho of r among a layer's tokens past the warm-up. AUROC " +
  "and Spearman's correlation (with -r) over these tokens; intervals: percentiles over resamples of blocks that overlap " +
  "and wrap round within a chunk, the same for all layers and rules. The learned rule is fitted on the tokens that it " +
  "would itself keep, with their features and outcomes in the dense stream.";

/** Folder of finished chunks; gone when the run is over. */
const WORK = "chunks";

/** Resamples of an interval, at most: more say nothing more, and all are held. */
const MAX_RESAMPLES = 1_000_000;

/** Share of the work that is the model's; the rest is statistics. */
const MODEL_SHARE = 0.6;

async function readMethod(values: FlagValues): Promise<ResolvedOptions> {
  const axes = Object.entries(await readAxes("heads", values))
    .map(([name, list]) => [name, (list as unknown[])[0]]);
  const method = checkFlags(() => resolveOptions({ tail: 1, ...Object.fromEntries(axes) }));
  const { fusion } = method;
  if (keyRuleOf(method) !== undefined) {
    throw new UsageError(
      `Cannot use --kv-fusion ${method.kvFusion}: heads measures whose attention matters, expected no rule of keys (leave ` +
        `--side and --kv-fusion out)`,
    );
  }
  if (fusion === "oracle") {
    throw new UsageError("Cannot use --fusion oracle: the oracle is what the rules are measured against");
  }
  expectScoresAlone("heads", method);
  if (isRule(methodOf(fusion))) return method;
  throw new UsageError(
    `Cannot use --fusion ${fusion}: expected a rule, since heads measures what rules score`,
  );
}

/** Runs the task. @returns The exit code. */
export async function main(args: readonly string[]): Promise<number> {
  const values = await withRule(parseFlags("heads", args, false));
  const progress = new Progress(values.has("quiet") ? undefined : Deno.stderr);
  const request = readBackend(values);
  const method = await readMethod(values),
    resamples = readCount(values, "resamples", 1, MAX_RESAMPLES) ?? 1000;
  const table = readTable(values, RULE_COLUMNS);
  const destination = readDestination(values, { noun: "chunks of a run", work: WORK, result: "heads.json" });
  const plan = await readPlan(values, [method], progress), { model, context } = plan;
  const tokens = countTokens(plan);
  const warning = warningOfMemory(tokens * model.config.numLayers, Deno.systemMemoryInfo().available);
  if (warning !== undefined) writeLine(Deno.stderr, warning);
  const { backend, study, conditions } = await startStudy(plan, request, [method], progress);
  const environment = { ...await describeStudy(study), protocol: PROTOCOL };
  const heads = checkFlags(() =>
    new HeadCollection(study.model.model, encodeStudy(plan), {
      filter: method as TokenFilterOptions,
      context,
      bootstrap: { resamples },
    })
  );
  using interrupt = new Interrupt();
  using claimed = claimFolder(destination);
  const { folder } = claimed;
  const store = await openChunkFiles(`${folder}/${WORK}`, conditions, method);
  const work = MODEL_SHARE * (1 - heads.resume(store) * context / tokens);
  /** The model's share of what is left. */
  const share = work / (work + 1 - MODEL_SHARE);
  progress.line(
    `${heads.layers.length} layers on ${tokens} tokens of ${plan.textName}; ${backend.description}`,
  );
  progress.start();
  const watch = (from: number, to: number) => (fraction: number, label: string) =>
    progress.step(from + (to - from) * fraction, label);
  const kept = () => {
    const { finished } = store;
    return { task: "heads", args, folder, work: WORK, finished, noun: "chunk" } as const;
  };
  try {
    const { signal } = interrupt;
    await heads.run({ signal, onProgress: watch(0, share) });
    const report = await heads.report(
      environment,
      effectiveOptions(method),
      (piece) => model.tokenizer.texts(piece),
      { signal, onProgress: watch(share, 1) },
    );
    const { version, cacheDType, products } = environment;
    const rest = {
      version,
      cacheDType,
      ...(products && { products }),
      stream: "dense",
      queries: false,
      phase: "prefill",
      piece: null,
    } as const;
    const unsaved = await saveResults(async () => {
      await writeTrace(`${folder}/trace.parquet`, heads.decisions(), traceInfo(model, method, rest));
      await writeWhole(`${folder}/heads.html`, renderHeadsReport(report, { plotly: await readPlotly() }));
      await writeWhole(`${folder}/heads.json`, formatReport(report));
      await store.remove();
    }, kept);
    progress.clear();
    await printTable(tabulateRules(report), table, {
      spare: ["Spearman"],
      json: () => formatReport(report).trimEnd(),
      records: report.overall.rules,
      notes: [
        ...explainTable(report, plan),
        ...(unsaved === undefined ? [`Report: ${folder}/heads.html`] : []),
      ],
    });
    return unsaved?.() ?? EXIT.ok;
  } catch (error) {
    progress.clear();
    return endEarly(error, interrupt, kept);
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

/** What the table's numbers are, line by line. */
function explainTable({ layers }: HeadReport, plan: Plan): string[] {
  const shares = [...new Set(layers.map(({ skipRatio }) => `${(100 * skipRatio).toFixed(0)}%`))];
  return [
    `Means over ${plural(layers.length, "layer")} of ${describePlan(plan)}.`,
    `AUROC of finding the ${
      shares.length === 1 ? shares[0] : `${shares[0]} to ${shares.at(-1)} (by layer)`
    } of tokens of least r; above random: layers where its interval is; Spearman: correlation with -r. ` +
    "1 = as the oracle.",
  ];
}

if (import.meta.main) await runTask(main, USAGE);
