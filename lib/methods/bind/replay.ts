/** Takes the decisions of another run again: unchanged, to check their results, or shuffled, as a control. */
import { expectInstance, expectInteger } from "../../errors.ts";
import { createScanOutput } from "../../filter/layer.ts";
import { judgedTokens } from "../../filter/blocks.ts";
import type { HeadParts } from "../../filter/option.ts";
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
  /** Per layer of `kvKeep` in which some KV heads keep everything: those heads, and the others. Default: none. */
  readonly heads?: ReadonlyMap<number, HeadParts>;
  /** Tokens per block, at whose starts keys and values are decided. Default 32. */
  readonly block?: number;
  /** Whether the other run decided by the attention received, so block by block: a replay rounds as it did. Default false. */
  readonly wantsAttention?: boolean;
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
    heads = new Map(),
    block = 32,
    wantsAttention = false,
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
    spans: { warmup, block, recent },
    skipped: { cached: cacheSkipped || kvKeep.size > 0, substitute },
    ...(kvKeep.size > 0 && { keySide: createKeyReplay(kvKeep, heads, wantsAttention) }),
    start: (chunk = 0) => wrap(new Map(), chunk),
  });
}

/** The next entries of a layer's mask. @throws {RangeError} If there are fewer. */
function nextOf(mask: Uint8Array, layer: number, from: number, count: number, of = ""): Uint8Array {
  if (from + count <= mask.length) return mask.subarray(from, from + count);
  throw new RangeError(
    `Cannot replay layer ${layer}: found ${mask.length} decisions${of}, expected at least ${from + count}`,
  );
}

function createKeyReplay(
  masks: ReadonlyMap<number, Uint8Array>,
  heads: ReadonlyMap<number, HeadParts>,
  wantsAttention: boolean,
): KeySide {
  const open = (seen: Map<number, number>): KeySequence => ({
    decide({ layer, count }) {
      const from = seen.get(layer) ?? 0;
      seen.set(layer, from + count);
      return { keep: Uint8Array.from(nextOf(masks.get(layer)!, layer, from, count, " on keys")) };
    },
    fork: () => open(new Map(seen)),
  });
  const layers = [...masks.keys()].sort((a, b) => a - b);
  return {
    layers,
    needs: [],
    at: wantsAttention ? "block" : "arrival",
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
