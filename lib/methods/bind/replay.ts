/** Takes the decisions of another run again: unchanged, to check their results, or shuffled, as a control. */
import { expectInstance, expectInteger } from "../../errors.ts";
import { createScanOutput } from "../../filter/layer.ts";
import { beginsBlock, judgedAt, judgedTokens, NEVER, type Spans } from "../../filter/blocks.ts";
import { type HeadParts, unitsOf } from "../../filter/option.ts";
import { unplannedLayer } from "../../filter/schedule.ts";
import type { FilterShape } from "../../filter/sequence.ts";
import { randomScore } from "../../math/random.ts";
import { keyMethodOf } from "../list.ts";
import { isEviction } from "../protocol/method.ts";
import type { ResolvedOptions } from "./options.ts";
import {
  definePruner,
  type KeySequence,
  type KeySide,
  type Pruner,
  type PrunerContext,
  type SideSequence,
  type Substitute,
  type When,
} from "../protocol/pruner.ts";
import { keyRuleOf } from "./sides.ts";

/** @internal Decisions to take, and the treatment of skipped tokens. */
export interface ReplayOptions {
  /** Per filtered layer (0-based index), one entry for each token of a sequence: 1 = compute, 0 = skip. */
  readonly keep: ReadonlyMap<number, Uint8Array>;
  /**
   * Per filtered layer, tokens at which the other run's decisions were cut, ascending. A method that decides in blocks
   * computes attention block by block; with the same cuts a replay rounds as that run did. Default: none.
   */
  readonly cuts?: ReadonlyMap<number, readonly number[]>;
  /** Whether the other run took its sequences whole, since its method looked ahead. Default false. */
  readonly whole?: boolean;
  /** Whether the other run computed the queries of all tokens, for its method to see. Default false. */
  readonly queries?: boolean;
  /** Tokens at the start that the other run kept for its warm-up. Default 0. */
  readonly warmup?: number;
  /** For how many tokens a skipped token's key and value stay visible. Default 0. */
  readonly recent?: number;
  /** Skipped tokens enter the KV cache all the same. Default false. */
  readonly cacheSkipped?: boolean;
  /**
   * Per layer of the other run's key side, one entry for each token: 0 = its key and value are evicted when it is
   * decided, which depends on the warm-up, `recent` and `block`. Default: none.
   */
  readonly kvKeep?: ReadonlyMap<number, Uint8Array>;
  /**
   * Per layer of the other run's key side, instead of `kvKeep`, as `ModelSequence.kvEnds` has it: by token the block start at
   * which its key and value are evicted, 2^31 - 1 where they stay; of each KV head that has rows of its own. Default: none.
   */
  readonly kvEnds?: ReadonlyMap<number, readonly Int32Array[]>;
  /** Per layer of the key side whose KV heads do not all have the same rows: heads that keep everything, and others. Default: none. */
  readonly heads?: ReadonlyMap<number, HeadParts>;
  /** Tokens per block, at whose starts keys and values are decided. Default 32. */
  readonly block?: number;
  /** When the other run decided keys and values: a replay computes attention in the same pieces. Default `arrival`. */
  readonly keysAt?: When;
  /** Substitute for skipped outputs. Default: none. */
  readonly substitute?: Substitute;
  /** Whether the other run first computed the warm-up in all layers, before any other token. Default false. */
  readonly warmsUpFirst?: boolean;
}

/**
 * Replays masks; every sequence starts at their first entry.
 *
 * @throws {RangeError} If a layer is not the model's, or an entry is neither 0 nor 1.
 *
 * @example
 * ```ts
 * import { createReplay } from "@tokenfilter/tokenfilter/methods";
 * const shape = { numLayers: 8, numHeads: 4, numKvHeads: 2, headDim: 32, hiddenSize: 128 };
 * const pruner = createReplay(shape, { keep: new Map([[7, Uint8Array.of(1, 0, 1)]]) });
 * console.assert(pruner.layers.join() === "7");
 * ```
 */
export function createReplay(
  shape: Pick<FilterShape, "numLayers">,
  {
    keep,
    cuts,
    whole = false,
    queries = false,
    warmup = 0,
    recent = 0,
    cacheSkipped = false,
    kvKeep = new Map(),
    kvEnds,
    heads = new Map(),
    block = 32,
    keysAt = "arrival",
    substitute,
    warmsUpFirst,
  }: ReplayOptions,
  { trace }: PrunerContext = {},
): Pruner {
  expectInstance("keep", keep, Map);
  for (const [layer, mask] of [...keep, ...kvKeep]) {
    expectInstance(`keep of layer ${layer}`, mask, Uint8Array);
    expectInteger("layer", layer, 0, shape.numLayers - 1);
    const bad = mask.findIndex((entry) => entry > 1);
    if (bad >= 0) {
      throw new RangeError(
        `Cannot replay layer ${layer}: found ${mask[bad]} at token ${bad}, expected 0 or 1`,
      );
    }
  }
  expectInteger("warmup", warmup, 0);
  expectInteger("recent", recent, 0);
  expectInteger("block", block, 1);
  const spans = { warmup, block, recent }, ends = kvEnds ?? endsOf(kvKeep, spans);
  expectEnds(ends, heads, shape, spans);

  function wrap(seen: Map<number, number>, chunk: number): SideSequence {
    return {
      decide({ layer, count }, start) {
        const mask = keep.get(layer);
        if (mask === undefined) throw unplannedLayer(layer, keep.keys());
        const from = seen.get(layer) ?? 0, next = nextOf(mask, layer, from, count - start);
        const cut = cuts?.get(layer)?.find((at) => at > from) ?? Infinity;
        const rows = createScanOutput(Math.min(next.length, cut - from));
        rows.keep.set(next.subarray(0, rows.keep.length));
        seen.set(layer, from + rows.keep.length);
        trace?.(rows, layer, chunk);
        return { keep: rows.keep };
      },
      fork: () => wrap(new Map(seen), chunk),
    };
  }

  return definePruner({
    name: "replay",
    layers: [...keep.keys()].sort((a, b) => a - b),
    needs: queries ? ["queries"] : [],
    at: whole ? "prefill" : warmsUpFirst ? "warm-up" : "arrival",
    spans,
    skipped: { cached: cacheSkipped || ends.size > 0, substitute },
    ...(ends.size > 0 && { keySide: createKeyReplay(ends, heads, keysAt) }),
    start: (chunk = 0) => wrap(new Map(), chunk),
  });
}

/** The next entries of a layer's mask. @throws {RangeError} If there are fewer. */
function nextOf(mask: Uint8Array, layer: number, from: number, count: number): Uint8Array {
  expectEnough(mask, layer, from + count);
  return mask.subarray(from, from + count);
}

function expectEnough({ length }: ArrayLike<number>, layer: number, count: number, of = ""): void {
  if (count <= length) return;
  throw new RangeError(
    `Cannot replay layer ${layer}: found ${length} decisions${of}, expected at least ${count}`,
  );
}

type Ends = ReadonlyMap<number, readonly Int32Array[]>;

/** Where keys and values end that go when they are first decided. */
function endsOf(masks: ReadonlyMap<number, Uint8Array>, spans: Spans): Ends {
  return new Map([...masks].map(([layer, mask]) => {
    return [layer, [Int32Array.from(mask, (keep, t) => keep === 0 ? judgedAt(t, spans) : NEVER)]];
  }));
}

/** @throws {RangeError} If a layer is not the model's, or a key and value go where none are decided. */
function expectEnds(
  ends: Ends,
  heads: ReadonlyMap<number, HeadParts>,
  { numLayers }: Pick<FilterShape, "numLayers">,
  spans: Spans,
): void {
  for (const [layer, units] of ends) {
    expectInteger("layer", layer, 0, numLayers - 1);
    const expected = unitsOf(heads.get(layer));
    if (units.length !== expected) {
      throw new RangeError(
        `Cannot replay layer ${layer}: found decisions of ${units.length} groups of KV heads, expected ${expected}`,
      );
    }
    for (const unit of units) {
      const bad = unit.findIndex((end, t) =>
        end < NEVER && (end < judgedAt(t, spans) || !beginsBlock(end, spans))
      );
      if (bad < 0) continue;
      throw new RangeError(
        `Cannot replay layer ${layer}: found token ${bad} evicted at ${
          unit[bad]
        }, expected a block start after its recent window`,
      );
    }
  }
}

function createKeyReplay(ends: Ends, heads: ReadonlyMap<number, HeadParts>, at: When): KeySide {
  // By block start, the tokens that go there.
  const gone = new Map(
    [...ends].map((
      [layer, units],
    ) => [layer, units.map((unit) => Map.groupBy(unit.keys(), (t) => unit[t]!))]),
  );
  const open = (seen: Map<number, number>): KeySequence => ({
    decide({ layer, count }) {
      const decided = (seen.get(layer) ?? 0) + count;
      expectEnough(ends.get(layer)![0]!, layer, decided, " on keys");
      seen.set(layer, decided);
      return {};
    },
    judge(layer, start) {
      const drops = gone.get(layer)!.map((unit) => unit.get(start) ?? []);
      return heads.get(layer)?.apart ? { dropByHead: drops } : { drop: drops[0]! };
    },
    fork: () => open(new Map(seen)),
  });
  return {
    layers: [...ends.keys()].sort((a, b) => a - b),
    needs: [],
    at,
    ...(heads.size > 0 && { heads }),
    start: () => open(new Map()),
  };
}

/**
 * Decisions of each layer in a random order between the warm-up and `end`: as many go as before, whichever they are.
 *
 * @param masks Per layer one entry per token, as a sequence's `keep` or `kvKeep`; not changed.
 * @returns Masks of the same layers, [tokens] u8 each.
 */
export function shuffleDecisions(
  masks: ReadonlyMap<number, Uint8Array>,
  { warmup, end, seed }: {
    readonly warmup: number;
    readonly end?: number | undefined;
    readonly seed: bigint;
  },
): Map<number, Uint8Array<ArrayBuffer>> {
  return new Map([...masks].map(([layer, mask]) => {
    const shuffled = Uint8Array.from(mask), part = shuffled.subarray(warmup, end);
    const order = Array.from(part, (_, i) => ({ i, at: randomScore(seed, 0, layer, i) }));
    part.set(order.sort((a, b) => a.at - b.at || a.i - b.i).map(({ i }) => mask[warmup + i]!));
    return [layer, shuffled];
  }));
}

/**
 * A method's own decisions, shuffled in time. A sequence first runs with the method. It then runs with the decisions
 * beyond the warm-up in a random order, layer by layer, on both sides.
 *
 * @throws {RangeError} If keys and values are evicted at other times than when they are first decided.
 */
export function createShuffled(
  shape: Pick<FilterShape, "numLayers">,
  of: Pruner,
  { seed, kvFusion }: Pick<ResolvedOptions, "seed" | "kvFusion">,
): Pruner {
  const rule = keyRuleOf({ kvFusion }), isEvicting = rule !== undefined && isEviction(keyMethodOf(rule));
  if (isEvicting || of.prepare !== undefined) {
    throw new RangeError(
      `Cannot shuffle the decisions of "${of.name}": expected a method that decides each token once`,
    );
  }
  const { spans, skipped: { cached, substitute }, keySide } = of, { warmup, block, recent } = spans;
  return {
    ...of,
    at: "prefill",
    prepare: {
      kind: "rehearse",
      of,
      then: ({ length, keep, kvKeep }) => {
        const end = keySide && judgedTokens(length, spans), first = Math.max(warmup, 1);
        return createReplay(shape, {
          warmup,
          recent,
          cacheSkipped: cached,
          block,
          whole: true,
          ...(substitute && { substitute }),
          ...(keySide?.heads && { heads: keySide.heads }),
          keep: shuffleDecisions(keep, { warmup: first, seed }),
          kvKeep: shuffleDecisions(kvKeep, { warmup: first, end, seed }),
        });
      },
    },
  };
}
