/** Evictions on a dump: methods that rank the cached tokens again at every block start. */
import type { Backend } from "../../../lib/backend.ts";
import { judgedAt, NEVER } from "../../../lib/filter/blocks.ts";
import { DecisionRecorder } from "../../../lib/heads/trace.ts";
import { createPruner } from "../../../lib/methods/bind/create_pruner.ts";
import type { ResolvedOptions } from "../../../lib/methods/bind/options.ts";
import { judgeDump } from "../../../lib/model/run/judge_dump.ts";
import type { Dump } from "./dump.ts";
import { type Decided, type PlannedLayer, uploadDump } from "./layer.ts";

/** Columns of numbers per token, in their order, and their meaning. */
export const RANK_COLUMNS = {
  score:
    "the method's last score of the token, low = evicted first; mean over KV heads with rows of their own",
  kvKeep: "1 = key and value are kept, 0 = evicted; the share of KV heads, where they have rows of their own",
  decidedAt: "block start at which the token was last ranked, in any KV head",
  evictedAt: "position from which on no query attends to the key, in no KV head",
};

/** A dump's layer for an eviction. @param ratio Of the tokens behind the warm-up and before the recent window. */
export function planEviction(
  dump: Dump,
  method: ResolvedOptions,
  ratio: number,
  layer: number,
): PlannedLayer {
  const [, numKvHeads, headDim] = dump.keys.shape as [number, number, number],
    { warmup, recent, block } = method;
  return {
    ...{ layer, warmup, recent, block, numKvHeads, headDim },
    decide: (count, backend) => evict(dump, method, { ratio, layer, count }, backend),
  };
}

function evict(
  dump: Dump,
  method: ResolvedOptions,
  { ratio, layer, count }: { readonly ratio: number; readonly layer: number; readonly count: number },
  backend: Backend,
): Decided {
  const [, numKvHeads, headDim] = dump.keys.shape as [number, number, number];
  const numHeads = dump.queries?.shape[1] ?? numKvHeads, recorder = new DecisionRecorder();
  const shape = { numLayers: 1, numHeads, numKvHeads, headDim, hiddenSize: numHeads * headDim };
  const options = { ...method, schedule: "explicit", skipRatios: [ratio] } as const;
  const { keyTrace, rankTrace } = recorder;
  const { spans, keySide } = createPruner("token-filtering", shape, options, {
    backend,
    keyTrace,
    rankTrace,
  });
  const { layers, asks, heads, needs, start } = keySide!, parts = heads?.get(0);
  const tokens = uploadDump(dump, count, backend);
  const side = {
    ...{ layer: 0, spans, sequence: start(), parts, ask: asks?.get(0) },
    foresees: needs.includes("future attention"),
  };
  // A ratio of 0 leaves no layer to decide.
  const kvEnds = layers.length === 0
    ? [new Int32Array(count).fill(NEVER)]
    : judgeDump(backend, side, tokens).ends(count).get(0)!;
  tokens.free();
  const ranks = kvEnds.map((_, unit) => recorder.ranksOf(0, 0, unit));
  const each = <T>(valueOf: (t: number) => T) => Array.from({ length: count }, (_, t) => valueOf(t));
  const known = (values: readonly (number | undefined)[]) => values.filter((x) => x !== undefined);
  const orNull = (values: readonly number[], of: (...values: number[]) => number) =>
    values.length === 0 ? null : of(...values);
  const mean = (...values: number[]) => values.reduce((a, b) => a + b) / values.length;
  const keep = each((t) => kvEnds.filter((ends) => ends[t] === NEVER).length / kvEnds.length);
  const columns = {
    score: each((t) => orNull(known(ranks.map(({ scores }) => scores[t])), mean)),
    kvKeep: keep,
    decidedAt: each((t) => orNull(known(ranks.map(({ at }) => at[t])), Math.max)),
    evictedAt: each((t) => keep[t] === 0 ? Math.max(...kvEnds.map((ends) => ends[t]!)) : null),
  };
  const decided = each((t) => t >= spans.warmup && judgedAt(t, spans) < count).filter(Boolean).length;
  return { layer, keep, decided, columns, kvEnds, parts, ranksOf: (unit) => ranks[unit]! };
}
