/** Fractions of attention computations that were skipped, and of keys that were dropped, from the masks of a run. */
import { expectInstance } from "../errors.ts";
import { judgedTokens, type Spans } from "../filter/blocks.ts";
import { unitsOf } from "../filter/option.ts";
import type { KeySide, Pruner } from "../methods/protocol/pruner.ts";

/** Skipped fractions; null where nothing could be decided (no token came after the warm-up). */
export interface SkipRatios {
  /** Fraction of all (layer, token) attention computations after the warm-up, over all layers of the model. */
  readonly achievedRatio: number | null;
  /** The same with the warm-up tokens in the count. */
  readonly achievedRatioWithWarmup: number;
  /** Fraction of each layer after the warm-up, [numLayers]; 0 for layers that are not filtered. */
  readonly skipRatioPerLayer: readonly (number | null)[];
}

/** Keys and values that were dropped; counts of several sequences add up. */
export interface DropCounts {
  /** Tokens that were decided, after the warm-up. */
  readonly judged: number;
  /** Tokens whose key and value were dropped, of each layer of the model; where some KV heads keep them, a fraction. */
  readonly droppedPerLayer: readonly number[];
}

/**
 * Counts drops over sequences.
 *
 * @param sequences For each its length and its masks: per layer of the key side 0 = evicted.
 * @param heads KV heads of layers, where they do not all have the same rows.
 * Masks are [tokens] u8.
 */
export function tallyDrops(
  numLayers: number,
  spans: Spans,
  sequences: readonly { readonly length: number; readonly kvKeep: ReadonlyMap<number, Uint8Array> }[],
  heads: KeySide["heads"] = new Map(),
): DropCounts {
  const droppedPerLayer = new Array<number>(numLayers).fill(0);
  let judged = 0;
  for (const { length, kvKeep } of sequences) {
    judged += Math.max(judgedTokens(length, spans) - Math.max(spans.warmup, 1), 0);
    for (const [layer, mask] of kvKeep) {
      const own = heads.get(layer), units = unitsOf(own);
      const dropped = mask.reduce((sum, kept) => sum + units - kept, 0) / units;
      droppedPerLayer[layer]! += own === undefined
        ? dropped
        : dropped * own.others.length / (own.whole.length + own.others.length);
    }
  }
  return { judged, droppedPerLayer };
}

/** From counts to the fraction over all layers; null where nothing was decided. */
export function dropRatioOf({ judged, droppedPerLayer }: DropCounts): number | null {
  const dropped = droppedPerLayer.reduce((a, b) => a + b, 0);
  return judged === 0 ? null : dropped / (droppedPerLayer.length * judged);
}

export function dropRatiosOf({ judged, droppedPerLayer }: DropCounts): (number | null)[] {
  return droppedPerLayer.map((dropped) => judged === 0 ? null : dropped / judged);
}

/** Layers with all their keys and values, and such KV heads as `layer.head`, as in records. */
export function wholeOf({ keySide }: Pick<Pruner, "keySide">): {
  readonly wholeLayers?: readonly number[];
  readonly wholeHeads?: readonly string[];
} {
  const { whole, heads } = keySide ?? {}, wholeHeads: string[] = [];
  heads?.forEach((parts, layer) => wholeHeads.push(...parts.whole.map((head) => `${layer}.${head}`)));
  return { ...(whole && { wholeLayers: whole }), ...(wholeHeads.length > 0 && { wholeHeads }) };
}

/** Attention computations that were skipped; counts of several sequences add up. */
export interface SkipCounts {
  readonly tokens: number;
  /** Tokens after the warm-up. */
  readonly decided: number;
  /** Skips after the warm-up, of each layer of the model. */
  readonly skippedPerLayer: readonly number[];
  /** Skips before its end, over all layers. */
  readonly early: number;
}

/**
 * Counts skips over sequences.
 *
 * @param numLayers Layers of the model, filtered or not.
 * @param warmup Tokens at the start of each sequence that are kept; the first token is never decided.
 * @param sequences For each its length and its masks: per filtered layer 1 = kept, 0 = skipped.
 *
 * @example
 * ```ts
 * const keep = new Map([[1, Uint8Array.of(1, 1, 0, 1)]]);
 * const { decided, skippedPerLayer } = tallySkips(2, 2, [{ length: 4, keep }]);
 * console.assert(decided === 2 && skippedPerLayer.join() === "0,1");
 * ```
 */
export function tallySkips(
  numLayers: number,
  warmup: number,
  sequences: readonly { readonly length: number; readonly keep: ReadonlyMap<number, Uint8Array> }[],
): SkipCounts {
  const first = Math.max(warmup, 1);
  const skippedPerLayer = new Array<number>(numLayers).fill(0);
  let tokens = 0, decided = 0, early = 0;
  for (const { length, keep } of sequences) {
    tokens += length;
    decided += Math.max(length - first, 0);
    expectInstance("keep", keep, Map);
    for (const [layer, mask] of keep) {
      mask.forEach((kept, t) => {
        if (kept) return;
        if (t >= first) skippedPerLayer[layer]!++;
        else early++;
      });
    }
  }
  return { tokens, decided, skippedPerLayer, early };
}

export function skipRatiosOf({ tokens, decided, skippedPerLayer, early }: SkipCounts): SkipRatios {
  const numLayers = skippedPerLayer.length, total = skippedPerLayer.reduce((a, b) => a + b, 0);
  return {
    achievedRatio: decided === 0 ? null : total / (numLayers * decided),
    achievedRatioWithWarmup: tokens === 0 ? 0 : (total + early) / (numLayers * tokens),
    skipRatioPerLayer: skippedPerLayer.map((count) => decided === 0 ? null : count / decided),
  };
}

/** Sums of counts, field by field; lists are added place by place. */
export function addCounts<T extends { readonly [K in keyof T]: number | readonly number[] }>(
  all: readonly T[],
): T {
  const add = (a: number | readonly number[], b: number | readonly number[]) =>
    typeof a === "number" ? a + (b as number) : a.map((own, i) => own + (b as readonly number[])[i]!);
  return all.reduce((sum, counts) => {
    const names = Object.keys(sum) as (keyof T)[];
    return Object.fromEntries(names.map((name) => [name, add(sum[name], counts[name])])) as T;
  });
}
