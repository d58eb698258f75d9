/** Replays tables of decisions of any method: what else a run needs to be repeated, and its sequences. */
import { NEVER, type Spans } from "../filter/blocks.ts";
import { type HeadParts, unitsOf } from "../filter/option.ts";
import type { FilterShape } from "../filter/sequence.ts";
import type { ReplayOptions } from "../methods/bind/replay.ts";
import { preparationOf, type Pruner, type Substitute, type When } from "../methods/protocol/pruner.ts";
import type { Decisions } from "./decisions.ts";

/** @internal How a method decided, as plain JSON: with it and its decisions a run can be repeated. */
export interface DecisionPlan {
  readonly spans: Spans;
  readonly queries: {
    /** 0-based indices of the layers whose attention may be skipped. */
    readonly layers: readonly number[];
    readonly at: When;
    /** Whether those of all tokens were computed. */
    readonly all: boolean;
    /** Whether keys and values of skipped tokens entered the cache. */
    readonly cached: boolean;
    /** Substitute for skipped outputs; left out: none. */
    readonly substitute?: Substitute | undefined;
    /** By sequence and layer, tokens at which its decisions were cut, ascending; left out: none. */
    readonly cuts?: readonly { readonly [layer: string]: readonly number[] }[];
  };
  /** Keys and values, where a rule of their own decided them. */
  readonly keys?: {
    readonly layers: readonly number[];
    readonly at: When;
    /** Whether it changed values of keys that stay. */
    readonly merges?: true;
    /** KV heads of layers in which they do not all have the same rows. */
    readonly heads: { readonly [layer: string]: HeadParts };
  };
}

/** Tokens at which decisions on attention were cut, of a sequence; a `DecisionRecorder` has them. */
interface CutSource {
  cutsOf(chunk: number): ReadonlyMap<number, readonly number[]>;
}

/** The plan of a method that ran over `sequences` sequences. @param recorder Received its decisions. */
export function planDecisions(pruner: Pruner, recorder: CutSource, sequences: number): DecisionPlan {
  const { spans, layers, at, needs, skipped: { cached, substitute }, keySide } = pruner;
  // A method that runs over the sequence beforehand was recorded, not the one that counts.
  const isSeen = layers.length > 0 && preparationOf(pruner, "rehearse") === undefined;
  const cutsOf = (_: unknown, chunk: number) => Object.fromEntries(recorder.cutsOf(chunk));
  return {
    spans,
    queries: {
      ...{ layers, at, cached, all: needs.some((need) => need === "queries" || need === "future outputs") },
      ...(substitute && { substitute }),
      ...(isSeen && { cuts: Array.from({ length: sequences }, cutsOf) }),
    },
    ...(keySide && {
      keys: {
        layers: keySide.layers,
        at: keySide.at,
        ...(keySide.merges && { merges: true }),
        heads: Object.fromEntries(keySide.heads ?? []),
      },
    }),
  };
}

/**
 * Takes decisions apart into sequences that can be replayed.
 *
 * @param shape The model's number of layers and KV heads.
 * @returns One entry for each sequence, in order.
 * @throws {RangeError} If rows are missing or not in their order, or the method changed values, which decisions do not hold.
 */
export function replayDecisions(
  { numLayers, numKvHeads }: Pick<FilterShape, "numLayers" | "numKvHeads">,
  decisions: Omit<Decisions, "score" | "decidedAt">,
  { spans, queries, keys }: DecisionPlan,
): { readonly ids: Int32Array<ArrayBuffer>; readonly options: ReplayOptions }[] {
  if (keys?.merges) {
    throw new RangeError("Cannot replay: found a method that merges values, expected one that only evicts");
  }
  const { warmup, block, recent } = spans, { all, at, cached, substitute, cuts } = queries;
  const heads = new Map(Object.entries(keys?.heads ?? {}).map(([layer, parts]) => [Number(layer), parts]));
  return cutRows(decisions, numLayers, numKvHeads).map(({ first, count }, chunk) => {
    const rowOf = (layer: number, head: number) => first + (layer * numKvHeads + head) * count;
    const take = <T>(column: { slice(from: number, to: number): T }, layer: number, head: number): T =>
      column.slice(rowOf(layer, head), rowOf(layer, head) + count);
    const endsOf = (layer: number) => {
      const parts = heads.get(layer), others = parts?.others ?? [0];
      return others.slice(0, unitsOf(parts)).map((head) =>
        take(decisions.evictedAt, layer, head).map((at) => at < 0 ? NEVER : at)
      );
    };
    return {
      ids: take(decisions.token, 0, 0),
      options: {
        ...{ warmup, block, recent, queries: all, cacheSkipped: cached, heads },
        whole: at === "prefill",
        warmsUpFirst: at === "warm-up",
        ...(substitute && { substitute }),
        keep: new Map(
          queries.layers.map((layer) => [layer, take(decisions.skipped, layer, 0).map((skips) => 1 - skips)]),
        ),
        cuts: new Map(Object.entries(cuts?.[chunk] ?? {}).map(([layer, own]) => [Number(layer), own])),
        ...(keys && {
          keysAt: keys.at,
          kvEnds: new Map(keys.layers.map((layer) => [layer, endsOf(layer)])),
        }),
      },
    };
  });
}

/** The rows of each sequence: its layers one after the other, in each the KV heads, in each the tokens. */
function cutRows(
  { rows, chunk, layer, head, position }: Pick<Decisions, "rows" | "chunk" | "layer" | "head" | "position">,
  numLayers: number,
  numKvHeads: number,
): { readonly first: number; readonly count: number }[] {
  const sequences: { first: number; count: number }[] = [];
  for (let row = 0; row < rows;) {
    const first = row;
    while (row < rows && chunk[row] === sequences.length) row++;
    const count = (row - first) / (numLayers * numKvHeads);
    const isOrdered = count > 1 && Number.isInteger(count) && position.subarray(first, row).every((at, i) => {
      const unit = Math.floor(i / count);
      return at === i % count && head[first + i] === unit % numKvHeads &&
        layer[first + i] === Math.floor(unit / numKvHeads);
    });
    if (!isOrdered) {
      throw new RangeError(
        `Cannot replay sequence ${sequences.length}: found rows of another order, expected one for each token of every layer and KV head`,
      );
    }
    sequences.push({ first, count });
  }
  if (sequences.length === 0) throw new RangeError("Cannot replay: found no decision, expected at least one");
  return sequences;
}
