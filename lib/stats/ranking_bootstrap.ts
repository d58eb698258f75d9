/** AUROC and Spearman's correlation of many scores over resamples, sorting each series once. */
import type { MovingBlocks } from "./bootstrap.ts";
import { type Ordering, orderValues } from "./ranking.ts";

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
  // Rules often agree on the order of all values: one of them then speaks for the others.
  const twins = orderings.map((own, i) =>
    orderings.findIndex((other, j) => j === i || isSameOrder(other, own))
  );
  const labelsInOrder = orderings.map(({ order }) =>
    Float64Array.from(order, (i) => labels[i] === 0 ? 0 : 1)
  );
  const draws = scores.map(() => ({
    auroc: new Float64Array(resamples),
    spearman: new Float64Array(resamples),
  }));
  // Of each value in turn: how often it was drawn, and the distance of its target's rank to the middle.
  const drawn = new Float64Array(2 * length), counts = new Float64Array(length);
  for (let resample = 0; resample < resamples; resample++) {
    blocks.fill(resample, counts);
    let positives = 0;
    for (let i = 0; i < length; i++) {
      drawn[2 * i] = counts[i]!;
      if (labels[i] !== 0) positives += counts[i]!;
    }
    const targetSquares = rankDrawn(targetOrdering, drawn);
    orderings.forEach((ordering, score) => {
      const twin = twins[score]!;
      if (twin !== score) {
        draws[score]!.auroc[resample] = draws[twin]!.auroc[resample]!;
        draws[score]!.spearman[resample] = draws[twin]!.spearman[resample]!;
        return;
      }
      const sum = ordering.hasTies ? sumRanksWithTies : sumRanks;
      const { hits, squares, products } = sum(ordering, labelsInOrder[score]!, drawn);
      // The rank sum of Mann and Whitney, with ranks about their middle.
      draws[score]!.auroc[resample] = 0.5 + hits / (positives * (length - positives));
      draws[score]!.spearman[resample] = products / Math.sqrt(squares * targetSquares);
    });
    onResample(resample + 1);
  }
  return draws;
}

function isSameOrder(a: Ordering, b: Ordering): boolean {
  return a.order.every((index, place) => index === b.order[place] && a.ends[place] === b.ends[place]);
}

/** Sums over a resample, ranks counted from their middle. */
interface RankSums {
  /** Of the positives' ranks. */
  readonly hits: number;
  /** Of squared ranks. */
  readonly squares: number;
  /** Of ranks times the target's ranks. */
  readonly products: number;
}

/** The sums where all values differ; copies of one value share its midrank. */
function sumRanks({ order }: Ordering, labels: Float64Array, drawn: Float64Array): RankSums {
  const length = order.length;
  let below = -length / 2, hits = 0, squares = 0, products = 0;
  for (let place = 0; place < length; place++) {
    const at = 2 * order[place]!, count = drawn[at]!;
    const sum = count * (below + count / 2);
    hits += sum * labels[place]!;
    squares += sum * (below + count / 2);
    products += sum * drawn[at + 1]!;
    below += count;
  }
  return { hits, squares, products };
}

/** The sums where equal values share their midrank. */
function sumRanksWithTies({ order, ends }: Ordering, labels: Float64Array, drawn: Float64Array): RankSums {
  const length = order.length;
  let below = -length / 2, hits = 0, squares = 0, products = 0;
  let size = 0, positive = 0, weight = 0; // of the run of equal values at work
  for (let place = 0; place < length; place++) {
    const at = 2 * order[place]!, count = drawn[at]!;
    size += count;
    positive += count * labels[place]!;
    weight += count * drawn[at + 1]!;
    if (ends[place] === 0) continue;
    const rank = below + size / 2;
    hits += positive * rank;
    squares += size * rank * rank;
    products += weight * rank;
    below += size;
    size = positive = weight = 0;
  }
  return { hits, squares, products };
}

/** Fills in the midranks of a resample, about their middle; returns the sum of their squares. */
function rankDrawn({ order, ends }: Ordering, drawn: Float64Array): number {
  let below = -order.length / 2, size = 0, squares = 0, first = 0;
  for (let place = 0; place < order.length; place++) {
    size += drawn[2 * order[place]!]!;
    if (ends[place] === 0) continue;
    const rank = below + size / 2;
    for (let i = first; i <= place; i++) drawn[2 * order[i]! + 1] = rank;
    squares += size * rank * rank;
    below += size;
    size = 0;
    first = place + 1;
  }
  return squares;
}
