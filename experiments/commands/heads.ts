/**
 * `deno task heads`: measures how similar the tokens of each head are to the past, and whether the filter's rules find
 * the tokens whose attention does little. Writes `heads.json`, `trace.parquet` and `heads.html` to a folder. See
 * `deno task heads --help`.
 */
import { UsageError } from "../../lib/errors.ts";
import { HeadCollection } from "../../lib/heads/collection.ts";
import type { HeadReport } from "../../lib/heads/report.ts";
import {
  effectiveOptions,
  recordOptions,
  type ResolvedOptions,
  resolveOptions,
  type TokenFilterOptions,
} from "../../lib/methods/bind/options.ts";
import { keyRuleOf } from "../../lib/methods/bind/sides.ts";
import { methodOf } from "../../lib/methods/list.ts";
import { isRule } from "../../lib/methods/protocol/method.ts";
import { readPlotly } from "../../lib/plot/figure/plotly.ts";
import { renderHeadsReport } from "../../lib/plot/reports/heads.ts";
import { plural } from "../../lib/plural.ts";
import type { Interval } from "../../lib/stats/paired.ts";
import { describeStudy, encodeStudy, measureStudy } from "../../lib/sweep/study.ts";
import { RUNS_MODEL } from "./cli/command.ts";
import { integer, rarely } from "./cli/flags/flag.ts";
import { RUN, STUDY, TABLE, TEXT } from "./cli/flags/flags.ts";
import { expectNoSubstitute, readOptions } from "./cli/flags/method.ts";
import { methodWithout } from "./cli/flags/method_flags.ts";
import type { FlagValues } from "./cli/flags/parse.ts";
import { withRule } from "./cli/flags/rule.ts";
import { readCount } from "./cli/flags/text.ts";
import { readBackend } from "./cli/machine/backend.ts";
import { probeRetrieval } from "./cli/machine/retrieval.ts";
import type { PlainTable } from "./cli/output/table.ts";
import { describePlan, readPlan, startStudy } from "./cli/run/study.ts";
import { expectStudy } from "./cli/run/study_store.ts";
import { checkFlags, runCommand, writeLine } from "./cli/task.ts";
import { traceBytes, traceInfo } from "./heads/trace_file.ts";
import type { Asked } from "./run.ts";
import { type Running, studyCommand } from "./run_study.ts";

const PROTOCOL =
  "One token stream with one BOS at its start where the tokenizer adds one; disjoint chunks of the context length, the " +
  "tail dropped, each a sequence of its own. Dense stream: no token is skipped; r = norm(attention block's output) / " +
  "norm(residual stream before it). Redundant: the lowest fraction rho of r among a layer's tokens past the warm-up. AUROC " +
  "and Spearman's correlation (with -r) over these tokens; intervals: percentiles over resamples of blocks that overlap " +
  "and wrap round within a chunk, the same for all layers and rules. The learned rule is fitted on the tokens that it " +
  "would itself keep, with their features and outcomes in the dense stream.";

/** Name of a measured chunk in the study. */
const UNIT = "chunk";

/** Most resamples of an interval: all are kept in memory, and more add no information. */
const MAX_RESAMPLES = 1_000_000;

/** Fraction of the work that is the model's; the rest is statistics. */
const MODEL_SHARE = 0.6;

async function readMethod(values: FlagValues): Promise<ResolvedOptions> {
  const options = await readOptions(values);
  const method = checkFlags(() => resolveOptions({ tail: 1, ...options }));
  const { fusion } = method;
  if (keyRuleOf(method) !== undefined) {
    throw new UsageError(
      `Cannot use --kv-method ${method.kvFusion}: heads measures whose attention matters, expected no rule of keys (leave ` +
        `--side and --kv-method out)`,
    );
  }
  if (fusion === "oracle") {
    throw new UsageError("Cannot use --method oracle: the oracle is what the rules are measured against");
  }
  expectNoSubstitute("heads", method);
  if (method.schedule === "allocated") {
    throw new UsageError(
      "Cannot use --schedule allocated in heads: expected another, since heads looks at scores, and skips nothing",
    );
  }
  if (isRule(methodOf(fusion))) return method;
  throw new UsageError(
    `Cannot use --method ${fusion}: expected a rule, since heads measures what rules score`,
  );
}

async function readFlags({ values }: Asked) {
  const request = readBackend(values), method = await readMethod(values);
  return { request, method, resamples: readCount(values, "resamples", 1, MAX_RESAMPLES) ?? 1000 };
}

type Flags = Awaited<ReturnType<typeof readFlags>>;

async function plan({ request, method, resamples }: Flags, { values, progress, named }: Asked) {
  const plan = await readPlan(values, [method], progress, named), { model, context } = plan;
  const tokens = measureStudy(plan).tokens;
  const warning = warningOfMemory(tokens * model.config.numLayers, Deno.systemMemoryInfo().available);
  if (warning !== undefined) writeLine(Deno.stderr, warning);
  const options = recordOptions(method);
  const started = await startStudy(plan, request, [method], progress, expectStudy(named), { options });
  const { study } = started, environment = { ...await describeStudy(study), protocol: PROTOCOL };
  const heads = checkFlags(() =>
    new HeadCollection(study.model.model, encodeStudy(plan), {
      filter: method as TokenFilterOptions,
      context,
      bootstrap: { resamples },
    })
  );
  return {
    ...started,
    method,
    tokens,
    environment,
    heads,
    line: `${heads.layers.length} layers on ${started.what}`,
  };
}

type Plan = Awaited<ReturnType<typeof plan>>;

/** Runs the chunks that are not in the study yet, then the statistics. */
async function work(plan: Plan, { store, progress, interrupt }: Running): Promise<HeadReport> {
  const { heads, study, tokens, method, environment } = plan, { signal } = interrupt;
  const found = heads.resume({
    read: (chunk) => store.readBytes(UNIT, String(chunk)),
    write: (chunk, bytes) => store.writeBytes(UNIT, String(chunk), bytes),
  });
  const left = MODEL_SHARE * (1 - found * study.context / tokens);
  const share = left / (left + 1 - MODEL_SHARE);
  const watch = (from: number, to: number) => (fraction: number, label: string) =>
    progress.step(from + (to - from) * fraction, label);
  await heads.run({ signal, onProgress: watch(0, share) });
  const report = await heads.report(
    environment,
    effectiveOptions(method),
    (piece) => study.model.tokenizer.texts(piece),
    { signal, onProgress: watch(share, 1) },
  );
  // Layers with a sliding window do not attend far back: a model of only such layers has no retrieval scores.
  const { layers } = study.model.config, reaches = !layers?.every(({ window }) => window !== undefined);
  return reaches ? { ...report, retrieval: (await probeRetrieval(study.model)).found } : report;
}

async function writePages(report: HeadReport, { heads, study, method, environment }: Plan) {
  const { version, cacheDType, products } = environment;
  const info = traceInfo(study.model, method, {
    ...{ version, cacheDType, ...(products && { products }) },
    ...{ stream: "dense", queries: false, phase: "prefill", piece: null },
  });
  return {
    "trace.parquet": traceBytes(heads.decisions(), info),
    "heads.html": renderHeadsReport(report, { plotly: await readPlotly() }),
  };
}

/** Bytes per token of a layer: its cosines, scores and moments, and its row of the trace. */
const BYTES_OF_DECISION = 4000;

/** A warning if the machine may have too little free memory for `tokens` of the layers. */
export function warningOfMemory(decisions: number, available: number): string | undefined {
  const needed = decisions * BYTES_OF_DECISION;
  if (needed < available) return undefined;
  const [more, less] = [needed, available].map((bytes) => `${(bytes / 1e9).toFixed(1)} GB`);
  return `Warning: this takes some ${more} of memory, and ${less} are free (take fewer --tokens)`;
}

function formatReport(report: HeadReport): string {
  const short = (_: string, value: unknown) =>
    typeof value === "number" && !Number.isInteger(value) ? Number(value.toPrecision(9)) : value;
  return JSON.stringify(report, short);
}

function shown(interval: Interval | null): string {
  if (interval === null) return "-";
  const { estimate, low, high } = interval;
  return `${estimate.toFixed(3)} [${low.toFixed(3)}, ${high.toFixed(3)}]`;
}

const RULE_COLUMNS = ["rule", "AUROC", "minus random", "above random", "Spearman"] as const;

/** One row per rule, best first: AUROC, its difference from `random`, and Spearman's correlation, over all layers. */
function tabulateRules({ overall, layers }: HeadReport): PlainTable {
  const rules = overall.rules.toSorted((a, b) => (b.auroc ?? 0) - (a.auroc ?? 0));
  return {
    columns: [...RULE_COLUMNS],
    left: [true, false, false, false, false],
    rows: rules.map(({ rule, aurocInterval, spearmanInterval }) => {
      const toRandom = (comparisons: typeof overall.comparisons) =>
        comparisons.find((one) => one.rule === rule && one.against === "random")?.auroc ?? null;
      const compared = layers.map(({ comparisons }) => toRandom(comparisons)).filter((one) => one !== null);
      const above = compared.filter(({ low }) => low > 0);
      return [
        rule,
        shown(aurocInterval),
        shown(toRandom(overall.comparisons)),
        compared.length === 0 ? "-" : `${above.length}/${compared.length}`,
        shown(spearmanInterval),
      ];
    }),
  };
}

function explainTable({ layers }: HeadReport, { study }: Plan): string[] {
  const shares = [...new Set(layers.map(({ skipRatio }) => `${(100 * skipRatio).toFixed(0)}%`))];
  const share = shares.length === 1 ? shares[0] : `${shares[0]} to ${shares.at(-1)} (by layer)`;
  return [
    `Means over ${plural(layers.length, "layer")} of ${describePlan(study)}.`,
    `AUROC of finding the ${share} of tokens of least r; above random: layers where its interval is; ` +
    "Spearman: correlation with -r. 1 = as the oracle.",
  ];
}

export const command = studyCommand({
  name: "heads",
  summary: "Measures what every layer and KV head does on a text, and how well each rule ranks its tokens.",
  usage: "[flags]",
  about: `Runs the full model over a text. Measures, for every layer and KV head, the similarity of keys and
values to the past, and how well each rule's score ranks the tokens by their true redundancy. A probe by
random tokens finds where the model retrieves (--whole auto). A table is on stdout, and heads.json,
trace.parquet and heads.html are in --out. The flags of the method choose the decisions that are shown;
nothing is skipped. Takes about 4 kB of memory per token and layer. Ctrl-C keeps finished chunks; --resume
continues.`,
  examples: [
    "",
    "--model smollm2-135m --tokens 4096 --out results/heads",
    "--text FILE --method learned --context 256",
  ],
  flags: {
    ...TEXT,
    ...RUN,
    ...methodWithout((option) => ["substitute", "sinks", "shuffle"].includes(option)),
    ...rarely({ resamples: integer("resamples of an interval (1000)") }),
    ...STUDY,
    ...TABLE,
  },
  permissions: RUNS_MODEL,
  prepare: withRule,
  file: "heads.json",
  // The trace holds every number that the study does.
  dropsStudy: true,
  read: readFlags,
  columns: () => RULE_COLUMNS,
  plan,
  work,
  kept: (store) => ({ finished: store.countUnits(UNIT), noun: UNIT }),
  json: formatReport,
  pages: writePages,
  table: (report, plan) => ({
    table: tabulateRules(report),
    spare: ["Spearman"],
    records: report.overall.rules,
    notes: explainTable(report, plan),
  }),
});

if (import.meta.main) await runCommand(command);
