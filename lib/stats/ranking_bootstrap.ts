/** AUROC and Spearman's correlation of many scores over resamples, sorting each series once. */
import type { MovingBlocks } from "./bootstrap.ts";
import { orderValues } from "./ranking.ts";

/** What a score came to in every resample; NaN where a resample leaves it undefined. */
export interface RankingDraws {
  /** Area under the ROC curve, [resamples]. */
  readonly auroc: Float64Array<ArrayBuffer>;
  /** Spearman's correlation with the target, [resamples]. */
  readonly spearman: Float64Array<ArrayBuffer>;
}

/**
 * Both statistics of each score in each resample. Ties among the copies of a value that was drawn more than once count
 * as in the series itself: midranks and half hits. All scores see the same resamples, so differences are paired.
 *
 * @param scores Series [N] each, high = thought positive.
 * @param labels [N], 1 = positive; they are properties of the values and stay with them.
 * @param target [N], what Spearman's correlation is taken with.
 * @param onResample Called after each resample; it may throw to stop.
 * @throws {RangeError} If lengths differ, or a value is NaN.
 *
 * @example
 * ```ts
 * import { drawMovingBlocks, resampleRankings } from "@tokenfilter/tokenfilter";
 * const target = Float64Array.of(4, 3, 2, 1), labels = Uint8Array.of(1, 1, 0, 0);
 * const blocks = drawMovingBlocks([4], { blockSize: 2, resamples: 5 });
 * const [draws] = resampleRankings([target], labels, target, blocks);
 * console.assert(draws!.auroc.every((a) => Number.isNaN(a) || a === 1));
 * ```
 */
export function resampleRankings(
  scores: readonly Float64Array[],
  labels: Uint8Array,
  target: Float64Array,
  blocks: MovingBlocks,
  onResample: (done: number) => void = () => {},
): RankingDraws[] {
  const { length, resamples } = blocks;
  for (const series of [labels, target, ...scores]) {
    if (series.length === length) continue;
    throw new RangeError(`Cannot resample: found ${series.length} values, expected ${length}`);
  }
  const orderings = scores.map(orderValues), targetOrdering = orderValues(target);
  const draws = scores.map(() => ({
    auroc: new Float64Array(resamples),
    spearman: new Float64Array(resamples),
  }));
  const counts = new Float64Array(length),
    positive = new Float64Array(length),
    ranks = new Float64Array(length);
  const cross = new Float64Array(length);
  const middle = (length + 1) / 2;
  for (let resample = 0; resample < resamples; resample++) {
    blocks.fill(resample, counts);
    let positives = 0;
    for (let i = 0; i < length; i++) {
      positive[i] = labels[i] === 0 ? 0 : counts[i]!;
      positives += positive[i]!;
    }
    const targetSquares = rankWeighted(targetOrdering, counts, ranks);
    for (let i = 0; i < length; i++) cross[i] = counts[i]! * (ranks[i]! - middle);
    orderings.forEach(({ order, ends }, score) => {
      let below = 0, negativesBelow = 0, pairs = 0, squares = 0, products = 0;
      let size = 0, hits = 0, weight = 0; // of the run of equal scores at work
      for (let place = 0; place < length; place++) {
        const i = order[place]!;
        size += counts[i]!;
        hits += positive[i]!;
        weight += cross[i]!;
        if (ends[place] === 0) continue;
        const rank = below + (size + 1) / 2 - middle, misses = size - hits;
        squares += size * rank * rank;
        products += weight * rank;
        pairs += hits * (negativesBelow + misses / 2);
        below += size;
        negativesBelow += misses;
        size = hits = weight = 0;
      }
      draws[score]!.auroc[resample] = pairs / (positives * (length - positives));
      draws[score]!.spearman[resample] = products / Math.sqrt(squares * targetSquares);
    });
    onResample(resample + 1);
  }
  return draws;
}

/** Fills `ranks` with the midranks of a resample; returns the sum over it of their squared distances to the middle. */
function rankWeighted(
  { order, ends }: { readonly order: Int32Array; readonly ends: Uint8Array },
  counts: Float64Array,
  ranks: Float64Array,
): number {
  const middle = (counts.length + 1) / 2;
  let below = 0, size = 0, squares = 0, first = 0;
  for (let place = 0; place < order.length; place++) {
    size += counts[order[place]!]!;
    if (ends[place] === 0) continue;
    const rank = below + (size + 1) / 2;
    for (let i = first; i <= place; i++) ranks[order[i]!] = rank;
    squares += size * (rank - middle) ** 2;
    below += size;
    size = 0;
    first = place + 1;
  }
  return squares;
}
