/**
 * `deno task filter`: only the decision recurrence, on keys and values that any engine has dumped.
 *
 * `experiments/commands/dump_kv.py` shows how to write such a dump. See `deno task filter --help`.
 */
import type { Backend } from "../../lib/backend.ts";
import { UsageError } from "../../lib/errors.ts";
import type { CacheDType } from "../../lib/dtype.ts";
import { judgedAt } from "../../lib/filter/blocks.ts";
import { createLayerState, createScanOutput, type ScanOutput } from "../../lib/filter/layer.ts";
import type { LayerSpec } from "../../lib/filter/layer.ts";
import { filterOps } from "../../lib/filter/sequence.ts";
import { collectDecisions, type Decisions } from "../../lib/heads/decisions.ts";
import {
  readsOf,
  recordOptions,
  type ResolvedOptions,
  resolveOptions,
  type TokenFilterOptions,
} from "../../lib/methods/bind/options.ts";
import { filtersQueries, keyRuleOf } from "../../lib/methods/bind/sides.ts";
import { openJudgement, readingsOf } from "../../lib/methods/bind/signal_rule.ts";
import { asksOf, sourcesOf } from "../../lib/methods/bind/signal_store.ts";
import { TokenFilter } from "../../lib/methods/bind/token_filter.ts";
import { methodOf } from "../../lib/methods/list.ts";
import { isRule } from "../../lib/methods/protocol/method.ts";
import { judgeDump } from "../../lib/model/run/judge_dump.ts";
import { renderPage } from "../../lib/plot/figure/page.ts";
import { readPlotly } from "../../lib/plot/figure/plotly.ts";
import { collectScoreTimeline, plotScoreTimeline } from "../../lib/plot/plots/one_run/score_timeline.ts";
import { methodName } from "../../lib/plot/trials/trial_label.ts";
import { plural } from "../../lib/plural.ts";
import { dequantize } from "../../lib/reference/mod.ts";
import { sha256 } from "../../lib/sha256.ts";
import { type HostTensor, hostTensor } from "../../lib/tensor.ts";
import { DECISIONS, readDecisionsFlag } from "./cli/flags/decisions.ts";
import { readBytes } from "./cli/files.ts";
import { expectNoSubstitute, readMethod, tellHostRules } from "./cli/flags/method.ts";
import { integer, number, onOff, pick, text, under } from "./cli/flags/flag.ts";
import { NATIVE, TABLE, TEXT } from "./cli/flags/flags.ts";
import { METHODS_OF } from "./cli/flags/method_flags.ts";
import { expectChoice, type FlagValues, textOf } from "./cli/flags/parse.ts";
import { readCount } from "./cli/flags/text.ts";
import { openBackend, readBackend } from "./cli/machine/backend.ts";
import type { PlainTable } from "./cli/output/table.ts";
import { runCommand } from "./cli/task.ts";
import { type Dump, readDumps } from "./filter/dump.ts";
import { DUMP_METHOD, DUMP_SIDES, dumpedReads } from "./filter/flags.ts";
import { type Asked, singleCommand } from "./run.ts";

/** The fraction to skip: of `--skip-ratio`, else of `--prune-ratio`, else one half. */
function readSkipRatio(values: FlagValues, method: ResolvedOptions): number {
  const ratio = values.get("skip-ratio")?.[0] as number | undefined;
  if (ratio !== undefined && values.has("prune-ratio")) {
    throw new UsageError(
      "Cannot use --skip-ratio with --prune-ratio: expected only one of them, since both set the same ratio",
    );
  }
  if (ratio !== undefined && !(ratio >= 0 && ratio <= 1)) {
    throw new UsageError(`Cannot use --skip-ratio ${ratio}: expected a number in [0, 1]`);
  }
  return ratio ?? (decidesKeys(method) ? method.kvRatio : method.pruneRatio);
}

/** Whether keys and values are decided, not queries. */
const decidesKeys = (method: ResolvedOptions) => !filtersQueries(method);

/** @throws {UsageError} If the warm-up takes all tokens of a dump: nothing would be decided. */
function expectDecided(tokens: number, heads: number, { warmup }: ResolvedOptions): void {
  if (tokens > Math.max(warmup, 1)) return;
  const hint = heads > tokens
    ? ` (or is it [heads, tokens, head size], as transformers has it? expected [tokens, heads, head size])`
    : "";
  throw new UsageError(
    `Cannot decide a dump: found ${
      plural(tokens, "token")
    } and a warm-up of ${warmup}, expected more tokens${hint}`,
  );
}

/** The dump's layer as an input of the filter. */
function planDump(dump: Dump, method: ResolvedOptions, skipRatio: number, layer: number): LayerSpec {
  const keyRule = keyRuleOf(method);
  if (keyRule !== undefined && !decidesKeys(method)) {
    throw new UsageError(
      "Cannot decide both sides of a dump: expected --side key, or no --kv-method",
    );
  }
  const fusion = keyRule ?? method.fusion, rule = methodOf(fusion);
  const lacks = (queries: boolean, headWeights: boolean) =>
    !isRule(rule) ||
    readsOf(rule, method).some((what) => !dumpedReads({ queries, headWeights }).includes(what));
  const hasQueries = dump.queries !== undefined;
  if (lacks(hasQueries, dump.headWeights !== undefined)) {
    const flag = `--${keyRule === undefined ? "" : "kv-"}method ${fusion}`;
    const has = hasQueries ? "keys, values and queries" : "keys and values";
    const missing = [...hasQueries ? [] : ["queries"], ...lacks(true, false) ? ["head weights"] : []];
    const lack = lacks(true, true)
      ? `it needs more than ${has} (use deno task score)`
      : `it needs ${missing.join(" and ")} too (see experiments/commands/dump_kv.py --queries)`;
    throw new UsageError(`Cannot run ${flag} on a dump: ${lack}`);
  }
  const [tokens, numKvHeads, headDim] = dump.keys.shape as [number, number, number];
  expectDecided(tokens, numKvHeads, method);
  const numHeads = dump.queries?.shape[1] ?? numKvHeads;
  const shape = { numLayers: 1, numHeads, numKvHeads, headDim, hiddenSize: numHeads * headDim };
  const options = { ...method, schedule: "explicit", skipRatios: [1] } as TokenFilterOptions;
  const filter = new TokenFilter(shape, options);
  return { ...filter.specs[0]!, skipRatio, layer };
}

/** Columns of numbers per token, in their order, and their meaning. */
const COLUMNS = {
  redundancy: "score S of the rule, high = like the past",
  threshold: "score above which a token is skipped, before this token",
  keep: "1 = attention is computed, 0 = skipped",
  muK: "mean over heads of the keys' cosines with their anchors",
  varK: "variance over heads of the same",
  muV: "as muK, of the values",
  varV: "as varK, of the values",
  wK: "weight of the keys in the score, 0 to 1",
};

const { keep: _, ...OF_SCORES } = COLUMNS;
/** The same of keys and values. */
const KEY_COLUMNS = {
  ...OF_SCORES,
  threshold: "score above which key and value are evicted, before this token; of decided tokens",
  kvKeep: "1 = key and value are kept, or not decided yet, 0 = evicted",
  decidedAt:
    "position from which on no query attends to an evicted key: the block start at which the token is decided",
};

type Values = readonly (number | null)[];

/** The decisions of one layer. */
interface Decided {
  readonly layer: number;
  /** 1 = kept, of queries or of keys and values. */
  readonly keep: readonly number[];
  /** Tokens past the warm-up that were decided. */
  readonly decided: number;
  readonly columns: { readonly [name: string]: Values };
}

/** Fills the rows of decided tokens, from signals of the dump's queries about them. */
function decideKeys(dump: Dump, spec: LayerSpec, count: number, backend: Backend, output: ScanOutput): void {
  let done = 0;
  const keyTrace = ({ redundancy, threshold, keep }: ScanOutput) => {
    output.redundancy.set(redundancy, done);
    output.threshold.set(threshold, done);
    output.keep.set(keep, done);
    done += keep.length;
  };
  const { layer, warmup, recent, block, headDim } = spec;
  const tensor = (x: HostTensor) => {
    const shape = [count, ...x.shape.slice(1)], size = shape.reduce((a, b) => a * b);
    return backend.upload(hostTensor("f32", shape, dequantize(x, 0, size)));
  };
  const tokens = {
    keys: tensor(dump.keys),
    values: tensor(dump.values),
    queries: tensor(dump.queries!),
    scale: 1 / Math.sqrt(headDim),
    ...(dump.headWeights && { headWeights: backend.upload(dump.headWeights) }),
  };
  const sequence = openJudgement([spec], keyTrace, backend, true);
  const ask = asksOf(sourcesOf(readingsOf(spec.reads, recent, true), [layer], Infinity), true).get(layer)!;
  judgeDump(backend, { layer, warmup, recent, block }, sequence, tokens, ask);
  const { scale: _, ...rows } = tokens;
  for (const x of Object.values(rows)) backend.free(x);
}

function decide(
  dump: Dump,
  spec: LayerSpec,
  tokens: number | undefined,
  backend: Backend,
  ofKeys: boolean,
): Decided {
  const count = Math.min(tokens ?? Infinity, dump.keys.shape[0]!);
  const output = createScanOutput(count);
  if (readingsOf(spec.reads, spec.recent, true).length > 0) decideKeys(dump, spec, count, backend, output);
  else {
    const input = { keys: backend.upload(dump.keys), values: backend.upload(dump.values) };
    const state = createLayerState(spec), { scan } = filterOps(spec.rule, backend);
    for (let start = 0; start < count;) {
      start += scan(spec, state, input, start, count - start, output);
    }
    backend.free(input.keys);
    backend.free(input.values);
  }
  const orNull = (x: number) => Number.isNaN(x) ? null : x;
  const { keep, ...scores } = Object.fromEntries(
    Object.keys(COLUMNS).map((name) => [name, Array.from(output[name as "keep"], orNull)]),
  ) as unknown as { readonly keep: number[]; readonly threshold: Values; readonly [name: string]: Values };
  const first = Math.max(spec.warmup, 1);
  if (!ofKeys) {
    const { redundancy, threshold, ...rest } = scores;
    const columns = { redundancy: redundancy!, threshold, keep, ...rest };
    return { layer: spec.layer, keep, decided: Math.max(count - first, 0), columns };
  }
  const starts = keep.map((_, t) => judgedAt(t, spec)), judged = starts.map((start) => start < count);
  const kvKeep = keep.map((kept, t) => judged[t] ? kept : 1);
  const columns = {
    ...scores,
    threshold: scores.threshold.map((theta, t) => judged[t] ? theta : null),
    kvKeep,
    decidedAt: starts.map((start, t) => judged[t] ? start : null),
  };
  const decided = judged.slice(first).filter((is) => is).length;
  return { layer: spec.layer, keep: kvKeep, decided, columns };
}

/** Decisions in the form of other commands: a token's id is not in a dump, and -1. */
function listDecisions(layers: readonly Decided[], { specs, ofKeys }: Plan): Decisions {
  const { warmup, recent, block, numKvHeads } = specs[0]!, count = layers[0]!.keep.length;
  const each = <T>(valueOf: (layer: Decided) => T) => new Map(layers.map((layer, i) => [i, valueOf(layer)]));
  const keep = each(({ keep }) => Uint8Array.from(keep));
  const kvEnds = each(({ columns: { kvKeep, decidedAt } }) => [
    Int32Array.from(kvKeep ?? [], (kept, t) => kept === 0 ? decidedAt![t]! : count),
  ]);
  const sequence = {
    ids: new Int32Array(count).fill(-1),
    ...(ofKeys ? { keep: new Map(), kvEnds } : { keep, kvEnds: new Map() }),
  };
  const scores = layers.map(({ columns }, i) =>
    [`${Number(ofKeys)} ${i} 0`, columns.redundancy!.map((score) => score ?? NaN)] as const
  );
  const decisions = collectDecisions(
    { numLayers: layers.length, numKvHeads },
    { spans: { warmup, recent, block }, skipped: { cached: false } },
    [sequence],
    { scores: () => new Map(scores), ranksOf: () => ({ scores: [], at: [] }) },
  );
  return { ...decisions, layer: decisions.layer.map((i) => layers[i]!.layer) };
}

async function keepDecisions(layers: readonly Decided[], plan: Plan): Promise<void> {
  const { decisionsPath, dumps, method, name, sha256, specs } = plan;
  if (decisionsPath === undefined) return;
  const { numKvHeads, headDim } = specs[0]!, { dtype } = dumps[0]!.keys;
  const { writeDecisions } = await import("./heads/decisions_file.ts");
  const file = { name, sha256, config: { numLayers: layers.length, numKvHeads, headDim } };
  await writeDecisions(decisionsPath, { file, cacheDType: dtype as CacheDType }, [
    { name: methodName(recordOptions(method)), options: method, decisions: listDecisions(layers, plan) },
  ]);
}

type Row = { readonly [name: string]: number | null };

/** A row per layer. */
function summarize({ layer, keep, decided, columns }: Decided, warmup: number): Row {
  const first = Math.max(warmup, 1);
  const skipped = keep.filter((kept) => kept === 0).length;
  const mean = (values: Values) => {
    const known = values.slice(first).filter((x) => x !== null);
    return known.length === 0 ? null : known.reduce((a, b) => a + b, 0) / known.length;
  };
  return {
    ...{ layer, tokens: keep.length, decided, skipped, share: decided === 0 ? null : skipped / decided },
    ...{ "mean score": mean(columns.redundancy!), "mean threshold": mean(columns.threshold!) },
  };
}

const SUMMARY = {
  layer: "the dump's layer",
  tokens: "of the dump",
  decided: "tokens after the warm-up",
  skipped: "tokens whose attention is skipped",
  share: "skipped of decided",
  "mean score": "of decided tokens; high = like the past",
  "mean threshold": "score above which a token is skipped",
};

/** The same of a run that decides keys and values. */
const KEY_SUMMARY = {
  ...SUMMARY,
  skipped: "tokens whose key and value are evicted",
  share: "evicted of decided",
};

/** Columns that hold whole numbers. */
const WHOLE = new Set(["layer", "token", "keep", "kvKeep", "decidedAt", "tokens", "decided", "skipped"]);

function tabulateRows(rows: readonly Row[], hints: { readonly [name: string]: string }): PlainTable {
  const columns = Object.keys(hints);
  const shown = (x: number | null, name: string) =>
    x === null ? "-" : WHOLE.has(name) ? String(x) : x.toFixed(4);
  return {
    columns,
    hints: Object.values(hints),
    rows: rows.map((row) => columns.map((name) => shown(row[name]!, name))),
    left: [],
  };
}

/** Layer numbers are 32-bit in the native code; `random` hashes 24 bits of them. */
const MAX_LAYER = 2 ** 24 - 1;

/** Checks that the given methods exist, and that only one side is decided. @throws {UsageError} If not. */
function expectOneSide(values: FlagValues): void {
  const side = textOf(values, "side"),
    names = (methods: readonly { readonly name: string }[]) => methods.map(({ name }) => name);
  if (side !== undefined) expectChoice("side", side, DUMP_SIDES);
  const known = ["same", "none", ...names(Object.values(METHODS_OF).flat())];
  const ofDumps = (flag: string) => names(DUMP_METHOD[flag]!.choices!);
  for (const flag of ["method", "kv-method"]) {
    const name = textOf(values, flag), ofKeys = side === "key" || flag === "kv-method";
    // Existing methods that cannot run on a dump are refused below, with the input that they lack.
    if (name === undefined || known.includes(name)) continue;
    expectChoice(flag, name, [...ofDumps("method"), ...ofKeys ? ofDumps("kv-method") : []]);
  }
}

async function readFlags({ values }: Asked) {
  const request = readBackend(values);
  expectOneSide(values);
  const method = await readMethod(values) ?? resolveOptions();
  expectNoSubstitute("filter", method);
  const skipRatio = readSkipRatio(values, method), layer = readCount(values, "layer", 0, MAX_LAYER);
  const tokens = readCount(values, "tokens", 1), all = values.has("all"), ofKeys = decidesKeys(method);
  const columns = ofKeys ? KEY_COLUMNS : COLUMNS;
  const summary = ofKeys ? KEY_SUMMARY : SUMMARY;
  const hints = all ? { layer: SUMMARY.layer, token: "its place", ...columns } : summary;
  const path = textOf(values, "kv"), decisionsPath = readDecisionsFlag(values, [method]);
  return { decisionsPath, request, method, skipRatio, layer, tokens, all, ofKeys, hints, path };
}

type Flags = Awaited<ReturnType<typeof readFlags>>;

async function plan(flags: Flags, { progress }: Asked) {
  const { request, method, skipRatio, layer, path } = flags;
  if (path === undefined) throw new UsageError("Cannot tell what to filter: expected --kv DUMP.safetensors");
  const dumps = await readDumps(path, layer);
  const specs = dumps.map((dump) => planDump(dump, method, skipRatio, dump.layer ?? layer ?? 0));
  const backend = await openBackend(request, progress);
  tellHostRules(progress, backend, [method]);
  const digest = flags.decisionsPath === undefined ? "" : await sha256(await readBytes(path));
  return { ...flags, dumps, specs, backend, name: path.split(/[/\\]/).at(-1)!, sha256: digest };
}

type Plan = Awaited<ReturnType<typeof plan>>;

async function work(plan: Plan, { progress }: Asked): Promise<Decided[]> {
  const { dumps, specs, tokens, backend, ofKeys } = plan;
  const layers = dumps.map((dump, i) => {
    progress.bar(i / dumps.length, `${i}/${dumps.length} layers`);
    return decide(dump, specs[i]!, tokens, backend, ofKeys);
  });
  await keepDecisions(layers, plan);
  return layers;
}

/** Columns of the dump's only layer, or of each layer. */
function toJson(layers: readonly Decided[], { dumps }: Plan): string {
  const isSingle = dumps[0]!.layer === undefined;
  return JSON.stringify(
    isSingle ? layers[0]!.columns : { layers: layers.map(({ layer, columns }) => ({ layer, ...columns })) },
  );
}

/** A row of each token of each layer. */
const listTokens = (layers: readonly Decided[]): Row[] =>
  layers.flatMap(({ layer, keep, columns }) =>
    keep.map((_, token) => ({
      ...{ layer, token },
      ...Object.fromEntries(Object.entries(columns).map(([name, column]) => [name, column[token]!])),
    }))
  );

async function drawPage(layers: readonly Decided[], { method, name, ofKeys }: Plan): Promise<string> {
  const traces = layers.map(({ layer, keep, columns: { redundancy, threshold } }) => ({
    ...{ layer, keep, redundancy: redundancy!, threshold: threshold! },
  }));
  const figures = [plotScoreTimeline(collectScoreTimeline(traces, { warmup: method.warmup }))];
  const title = `Token Filtering of ${name}: ${ofKeys ? `${method.kvFusion} on keys` : method.fusion}`;
  return renderPage({ title, sections: figures, plotly: await readPlotly() });
}

export const command = singleCommand({
  name: "filter",
  summary: "Decides for every token of a dump whether its attention would be skipped.",
  usage: "--kv DUMP.safetensors [flags]",
  about: `It prints one line per layer; --all prints every token. A dump contains keys and values of one
sequence, [T, H, d]: tensors "keys" and "values" of one layer, or "keys.N" and "values.N" of each layer N.
With "queries" too, all after rotary embedding, it can also run rules of the key side that read the attention
received; with "headWeights" too, [heads], leave-one-out and --preset retrieval, whose heads all evict here.
Each layer skips the same ratio: --skip-ratio, or --prune-ratio, not both. With --side key it decides which
keys and values are evicted, and when. --out keeps filter.json and a page of scores and thresholds.`,
  examples: [
    "--kv DUMP.safetensors",
    "--kv DUMP.safetensors --skip-ratio 0.3 --out DIR",
    "--kv DUMP.safetensors --preset retrieval --skip-ratio 0.7",
    "--kv DUMP.safetensors --layer 12 --all --csv FILE",
  ],
  flags: {
    ...under("What runs", {
      kv: text(
        "DUMP.safetensors",
        "tensors keys and values, or keys.N and values.N, [T, H, d], f32, f16 or bf16",
      ),
      layer: integer("the only layer wanted of several; else the layer's number, which random reads (0)"),
    }),
    ...pick(TEXT, "tokens"),
    ...DUMP_METHOD,
    ...under("Method", { "skip-ratio": number("R", "ratio of this layer's tokens to skip, [0, 1] (0.5)") }),
    ...NATIVE,
    ...under("Results", {
      out: text("DIR", "folder for results (none)"),
      all: onOff("print every token"),
    }),
    ...DECISIONS,
    ...TABLE,
  },
  permissions: "-RWE --allow-ffi --allow-run",
  read: readFlags,
  columns: ({ hints }) => Object.keys(hints),
  plan,
  work,
  file: "filter.json",
  json: toJson,
  pages: async (layers, plan) => ({ "filter.html": await drawPage(layers, plan) }),
  table(layers, plan) {
    const { all, ofKeys, method, hints, skipRatio } = plan;
    const summaries = layers.map((decided) => summarize(decided, method.warmup));
    const total = (name: string) => summaries.reduce((sum, row) => sum + row[name]!, 0);
    const rows = all ? listTokens(layers) : summaries, tokens = "tokens after the warm-up";
    const skipped = ofKeys
      ? `Evicted keys and values of ${total("skipped")} of ${total("decided")} decided ${tokens}`
      : `Skipped ${total("skipped")} of ${total("decided")} ${tokens}`;
    return {
      table: tabulateRows(rows, hints),
      spare: all ? ["wK", "varV", "varK"] : [],
      records: rows,
      notes: [`${skipped}; asked for ${skipRatio}`, ...(all ? [] : ["Every token: --all."])],
    };
  },
});

if (import.meta.main) await runCommand(command);
