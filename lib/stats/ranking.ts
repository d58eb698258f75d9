/** How well one series ranks another: exact, with midranks for ties; and over resamples, sorting each series once. */
import { expectInstance } from "../errors.ts";
import type { MovingBlocks } from "./bootstrap.ts";

/** A series in ascending order, ready to be ranked again and again under changing weights. */
interface Ordering {
  /** Indices of the values, ascending by value. */
  readonly order: Int32Array<ArrayBuffer>;
  /** 1 where a run of equal values ends, in the places of `order`. */
  readonly ends: Uint8Array<ArrayBuffer>;
  readonly hasTies: boolean;
}

/** Sorts a series. @throws {RangeError} If a value is NaN. */
function orderValues(values: Float64Array): Ordering {
  const nan = values.findIndex(Number.isNaN);
  if (nan >= 0) throw new RangeError(`Cannot rank: found NaN at ${nan}, expected numbers`);
  const order = sortIndices(values);
  const ends = Uint8Array.from(order, (index, place) => {
    const next = order[place + 1];
    return next === undefined || values[next] !== values[index] ? 1 : 0;
  });
  return { order, ends, hasTies: ends.includes(0) };
}

/** Indices of values, ascending by value, by merging runs: some ten times faster than a sort that calls a comparison. */
function sortIndices(values: Float64Array): Int32Array<ArrayBuffer> {
  const count = values.length;
  let from = Int32Array.from(values.keys()), to = new Int32Array(count);
  for (let width = 1; width < count; width *= 2) {
    for (let begin = 0; begin < count; begin += 2 * width) {
      const middle = Math.min(begin + width, count), end = Math.min(middle + width, count);
      let left = begin, right = middle;
      for (let at = begin; at < end; at++) {
        const takeLeft = right === end || (left < middle && values[from[left]!]! <= values[from[right]!]!);
        to[at] = from[takeLeft ? left++ : right++]!;
      }
    }
    [from, to] = [to, from];
  }
  return from;
}

/**
 * Ranks from 1 on; equal values share the mean of their ranks.
 *
 * @throws {RangeError} If a value is NaN.
 * @param values [n] f64.
 * @returns [n] f64.
 */
export function midranks(values: Float64Array): Float64Array<ArrayBuffer> {
  const { order, ends } = orderValues(values);
  const ranks = new Float64Array(values.length);
  for (let place = 0, first = 0; place < order.length; place++) {
    if (!ends[place]) continue;
    for (let i = first; i <= place; i++) ranks[order[i]!] = (first + place) / 2 + 1;
    first = place + 1;
  }
  return ranks;
}

/**
 * Spearman's correlation: Pearson's correlation of midranks.
 *
 * @returns In [-1, 1]; NaN where a series is constant or shorter than 2.
 * @throws {TypeError} If a series is no `Float64Array`.
 * @throws {RangeError} If the series differ in length, or a value is NaN.
 *
 * @example
 * ```ts
 * import { spearman } from "@tokenfilter/tokenfilter/stats";
 * console.assert(spearman(Float64Array.of(1, 2, 3), Float64Array.of(10, 100, 1000)) === 1);
 * ```
 */
export function spearman(a: Float64Array, b: Float64Array): number {
  expectInstance("a", a, Float64Array);
  expectInstance("b", b, Float64Array);
  expectPaired(a.length, b.length);
  const ranksA = midranks(a), ranksB = midranks(b), middle = (a.length + 1) / 2;
  let ab = 0, aa = 0, bb = 0;
  for (let i = 0; i < a.length; i++) {
    const da = ranksA[i]! - middle, db = ranksB[i]! - middle;
    ab += da * db;
    aa += da * da;
    bb += db * db;
  }
  return aa === 0 || bb === 0 ? NaN : ab / Math.sqrt(aa * bb);
}

/**
 * Area under the ROC curve: the chance that a positive's score is above a negative's, ties counting half.
 *
 * @param scores [N]
 * @param labels [N], 1 = positive, 0 = negative.
 * @returns In [0, 1]; NaN where one class is empty.
 * @throws {TypeError} If scores or labels are of another type.
 * @throws {RangeError} If the series differ in length, or a score is NaN.
 *
 * @example
 * ```ts
 * import { auroc } from "@tokenfilter/tokenfilter/stats";
 * console.assert(auroc(Float64Array.of(0.1, 0.4, 0.35, 0.8), Uint8Array.of(0, 0, 1, 1)) === 0.75);
 * ```
 */
export function auroc(scores: Float64Array, labels: Uint8Array): number {
  expectInstance("scores", scores, Float64Array);
  expectInstance("labels", labels, Uint8Array);
  expectPaired(scores.length, labels.length);
  const ranks = midranks(scores);
  let positives = 0, sum = 0;
  for (let i = 0; i < scores.length; i++) {
    if (labels[i] === 0) continue;
    positives++;
    sum += ranks[i]!;
  }
  const negatives = scores.length - positives;
  if (positives === 0 || negatives === 0) return NaN;
  return (sum - positives * (positives + 1) / 2) / (positives * negatives);
}

/**
 * The ROC curve at given false positive rates; straight between its corners, so that its area is {@linkcode auroc}.
 *
 * @param grid False positive rates, ascending, in [0, 1].
 * @returns True positive rates, the highest at each; empty where one class is empty.
 */
export function rocCurve(scores: Float64Array, labels: Uint8Array, grid: readonly number[]): number[] {
  expectPaired(scores.length, labels.length);
  const { order, ends } = orderValues(scores.map((score) => -score));
  const positives = labels.reduce((sum, label) => sum + (label === 0 ? 0 : 1), 0);
  const negatives = scores.length - positives;
  if (positives === 0 || negatives === 0) return [];
  const corners: [number, number][] = [[0, 0]];
  for (let place = 0, hits = 0, misses = 0; place < order.length; place++) {
    if (labels[order[place]!]) hits++;
    else misses++;
    if (ends[place]) corners.push([misses / negatives, hits / positives]);
  }
  let at = 0;
  return grid.map((rate) => {
    while (at + 1 < corners.length && corners[at + 1]![0] <= rate) at++;
    const [x, y] = corners[at]!, next = corners[at + 1];
    return next === undefined ? y : y + (next[1] - y) * (rate - x) / (next[0] - x);
  });
}

function expectPaired(a: number, b: number): void {
  if (a !== b) throw new RangeError(`Cannot compare series: found ${a} and ${b} values, expected as many`);
}

/** Each statistic of a score in every resample, [resamples]; NaN where a resample leaves it undefined. */
export interface RankingDraws {
  readonly auroc: Float64Array<ArrayBuffer>;
  readonly spearman: Float64Array<ArrayBuffer>;
}

/**
 * Both statistics of each score in each resample. Ties among the copies of a value that was drawn more than once count
 * as in the series itself: midranks and half hits. All scores see the same resamples, so differences are paired.
 *
 * @param scores Series [N] each, high = thought positive; labels are 1 = positive, and stay with their values.
 * @param target [N], the values to correlate with.
 * @throws {RangeError} If lengths differ, or a value is NaN.
 */
export function resampleRankings(
  scores: readonly Float64Array[],
  labels: Uint8Array,
  target: Float64Array,
  blocks: MovingBlocks,
): RankingDraws[] {
  const { length, resamples } = blocks;
  for (const series of [labels, target, ...scores]) {
    if (series.length === length) continue;
    throw new RangeError(`Cannot resample: found ${series.length} values, expected ${length}`);
  }
  const orderings = scores.map(orderValues), targetOrdering = orderValues(target);
  const labelsInOrder = orderings.map(({ order }) =>
    Float64Array.from(order, (i) => labels[i] === 0 ? 0 : 1)
  );
  const draws = scores.map(() => ({
    auroc: new Float64Array(resamples),
    spearman: new Float64Array(resamples),
  }));
  // For each value in turn: how often it was drawn, and the distance of its target's rank to the middle.
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
      const sum = ordering.hasTies ? sumRanksWithTies : sumRanks;
      const { hits, squares, products } = sum(ordering, labelsInOrder[score]!, drawn);
      // The rank sum of Mann and Whitney, with ranks about their middle.
      draws[score]!.auroc[resample] = 0.5 + hits / (positives * (length - positives));
      draws[score]!.spearman[resample] = products / Math.sqrt(squares * targetSquares);
    });
  }
  return draws;
}

/**
 * Sums over a resample, ranks counted from their middle: of positives' ranks, squares, and products with the target's.
 * All values differ; copies of one value share its midrank.
 */
function sumRanks({ order }: Ordering, labels: Float64Array, drawn: Float64Array) {
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

/** The same sums where equal values share their midrank. */
function sumRanksWithTies({ order, ends }: Ordering, labels: Float64Array, drawn: Float64Array) {
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
