/**
 * `deno task filter`: only the decision recurrence, on keys and values that any engine has dumped.
 *
 * `experiments/commands/dump_kv.py` shows how to write such a dump. See `deno task filter --help`.
 */
import { UsageError } from "../../lib/errors.ts";
import type { CacheDType } from "../../lib/dtype.ts";
import { collectDecisions, type Decisions } from "../../lib/heads/decisions.ts";
import { recordOptions, type ResolvedOptions, resolveOptions } from "../../lib/methods/bind/options.ts";
import { filtersQueries, keyRuleOf } from "../../lib/methods/bind/sides.ts";
import { methodOf } from "../../lib/methods/list.ts";
import { isEviction } from "../../lib/methods/protocol/method.ts";
import { renderPage } from "../../lib/plot/figure/page.ts";
import { readPlotly } from "../../lib/plot/figure/plotly.ts";
import { collectScoreTimeline, plotScoreTimeline } from "../../lib/plot/plots/one_run/score_timeline.ts";
import { methodName } from "../../lib/plot/trials/trial_label.ts";
import { plural } from "../../lib/plural.ts";
import { sha256 } from "../../lib/sha256.ts";
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
import { planEviction, RANK_COLUMNS } from "./filter/eviction.ts";
import { DUMP_METHOD, DUMP_SIDES, neededInDump } from "./filter/flags.ts";
import type { Decided, PlannedLayer, Values } from "./filter/layer.ts";
import { COLUMNS, KEY_COLUMNS, planRule } from "./filter/rule.ts";
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

/** What decides a dump, as {@linkcode methodOf} has it. */
const decidingMethod = (method: ResolvedOptions) => methodOf(keyRuleOf(method) ?? method.fusion);

/** A dump's layer as it is to be decided. @throws {UsageError} If the dump lacks what the method reads. */
function planDump(dump: Dump, method: ResolvedOptions, skipRatio: number, layer: number): PlannedLayer {
  const ofKeys = decidesKeys(method), keyRule = keyRuleOf(method), decider = decidingMethod(method);
  if (keyRule !== undefined && !ofKeys) {
    throw new UsageError(
      "Cannot decide both sides of a dump: expected --side key, or no --kv-method",
    );
  }
  const needed = neededInDump(decider, method), hasQueries = dump.queries !== undefined;
  const missing = [...needed ?? []].filter((part) =>
    part === "queries" ? !hasQueries : dump.headWeights === undefined
  );
  if (needed === undefined || missing.length > 0) {
    const has = hasQueries ? "keys, values and queries" : "keys and values";
    const lack = needed === undefined
      ? `it needs more than ${has} (use deno task score)`
      : `it needs ${missing.join(" and ")} too (see experiments/commands/dump_kv.py --queries)`;
    const flag = `--${keyRule === undefined ? "" : "kv-"}method ${decider.name}`;
    throw new UsageError(`Cannot run ${flag} on a dump: ${lack}`);
  }
  expectDecided(dump.keys.shape[0]!, dump.keys.shape[1]!, method);
  if (isEviction(decider)) return planEviction(dump, method, skipRatio, layer);
  return planRule(dump, method, { skipRatio, layer, ofKeys });
}

/** Decisions in the form of other commands: a token's id is not in a dump, and -1. */
function listDecisions(layers: readonly Decided[], { planned, ofKeys }: Plan): Decisions {
  const { warmup, recent, block, numKvHeads } = planned[0]!, count = layers[0]!.keep.length;
  const each = <T>(valueOf: (layer: Decided) => T | undefined) =>
    new Map(layers.flatMap((layer, i): [number, T][] => {
      const value = valueOf(layer);
      return value === undefined ? [] : [[i, value]];
    }));
  const sequence = {
    ids: new Int32Array(count).fill(-1),
    keep: each(({ keep, kvEnds }) => kvEnds ? undefined : Uint8Array.from(keep)),
    kvEnds: each(({ kvEnds }) => kvEnds),
  };
  const scores = layers.flatMap(({ columns, ranksOf }, i) =>
    ranksOf ? [] : [[`${Number(ofKeys)} ${i} 0`, columns.redundancy!.map((score) => score ?? NaN)] as const]
  );
  const decisions = collectDecisions(
    { numLayers: layers.length, numKvHeads },
    {
      ...{ spans: { warmup, recent, block }, skipped: { cached: false } },
      keySide: { heads: each(({ parts }) => parts) },
    },
    [sequence],
    { scores: () => new Map(scores), ranksOf: (_, layer, unit) => layers[layer]!.ranksOf!(unit) },
  );
  return { ...decisions, layer: decisions.layer.map((i) => layers[i]!.layer) };
}

async function keepDecisions(layers: readonly Decided[], plan: Plan): Promise<void> {
  const { decisionsPath, dumps, method, name, sha256, planned } = plan;
  if (decisionsPath === undefined) return;
  const { numKvHeads, headDim } = planned[0]!, { dtype } = dumps[0]!.keys;
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
  const skipped = Number(keep.reduce((sum, kept) => sum + 1 - kept, 0).toFixed(6)); // shares of heads add up
  const mean = (values: Values = []) => {
    const known = values.slice(first).filter((x) => x !== null);
    return known.length === 0 ? null : known.reduce((a, b) => a + b, 0) / known.length;
  };
  return {
    ...{ layer, tokens: keep.length, decided, skipped, share: decided === 0 ? null : skipped / decided },
    ...{ "mean score": mean(columns.redundancy ?? columns.score), "mean threshold": mean(columns.threshold) },
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

/** The same of an eviction. */
const { "mean threshold": _, ...RANK_SUMMARY } = {
  ...KEY_SUMMARY,
  "mean score": "last score of ranked tokens; low = evicted first",
};

/** Columns that hold whole numbers. */
const WHOLE = new Set(["layer", "token", "keep", "decidedAt", "evictedAt", "tokens", "decided", "skipped"]);

function tabulateRows(rows: readonly Row[], hints: { readonly [name: string]: string }): PlainTable {
  const columns = Object.keys(hints);
  const shown = (x: number | null, name: string) =>
    x === null ? "-" : WHOLE.has(name) || Number.isInteger(x) && name === "kvKeep" ? String(x) : x.toFixed(4);
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
  const ranks = isEviction(decidingMethod(method));
  const columns = ranks ? RANK_COLUMNS : ofKeys ? KEY_COLUMNS : COLUMNS;
  const summary = ranks ? RANK_SUMMARY : ofKeys ? KEY_SUMMARY : SUMMARY;
  const hints = all ? { layer: SUMMARY.layer, token: "its place", ...columns } : summary;
  const path = textOf(values, "kv"), decisionsPath = readDecisionsFlag(values, [method]);
  return { decisionsPath, request, method, skipRatio, layer, tokens, all, ofKeys, ranks, hints, path };
}

type Flags = Awaited<ReturnType<typeof readFlags>>;

async function plan(flags: Flags, { progress }: Asked) {
  const { request, method, skipRatio, layer, path } = flags;
  if (path === undefined) throw new UsageError("Cannot tell what to filter: expected --kv DUMP.safetensors");
  const dumps = await readDumps(path, layer);
  const planned = dumps.map((dump) => planDump(dump, method, skipRatio, dump.layer ?? layer ?? 0));
  const backend = await openBackend(request, progress);
  tellHostRules(progress, backend, [method]);
  const digest = flags.decisionsPath === undefined ? "" : await sha256(await readBytes(path));
  return { ...flags, dumps, planned, backend, name: path.split(/[/\\]/).at(-1)!, sha256: digest };
}

type Plan = Awaited<ReturnType<typeof plan>>;

async function work(plan: Plan, { progress }: Asked): Promise<Decided[]> {
  const { dumps, planned, tokens = Infinity, backend } = plan;
  const layers = planned.map((layer, i) => {
    progress.bar(i / planned.length, `${i}/${planned.length} layers`);
    return layer.decide(Math.min(tokens, dumps[i]!.keys.shape[0]!), backend);
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

async function drawPage(layers: readonly Decided[], { method, name, ofKeys, ranks }: Plan): Promise<string> {
  const of = ranks ? "ranks" : ofKeys ? "keys" : "queries";
  const traces = layers.map(({ layer, keep, columns: { redundancy, threshold, score } }) => ({
    ...{ layer, redundancy: redundancy ?? score!, threshold: threshold ?? keep.map(() => null) },
    keep: keep.map(Math.ceil), // a token is there as long as a KV head has it
  }));
  const figures = [plotScoreTimeline(collectScoreTimeline(traces, { warmup: method.warmup, of }))];
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
received and evictions; with "headWeights" too, [heads], leave-one-out and --preset retrieval, whose heads all
evict here.
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
