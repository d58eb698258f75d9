/** How well one series ranks another: exact, with midranks for ties. */

/** A series in ascending order, ready to be ranked again and again under changing weights. */
export interface Ordering {
  /** Indices of the values, ascending by value. */
  readonly order: Int32Array<ArrayBuffer>;
  /** 1 where a run of equal values ends, in the places of `order`. */
  readonly ends: Uint8Array<ArrayBuffer>;
  readonly hasTies: boolean;
}

/** Sorts a series. @throws {RangeError} If a value is NaN. */
export function orderValues(values: Float64Array): Ordering {
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
 * @throws {RangeError} If the series differ in length, or a value is NaN.
 *
 * @example
 * ```ts
 * import { spearman } from "@tokenfilter/tokenfilter/stats";
 * console.assert(spearman(Float64Array.of(1, 2, 3), Float64Array.of(10, 100, 1000)) === 1);
 * ```
 */
export function spearman(a: Float64Array, b: Float64Array): number {
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
 * @throws {RangeError} If the series differ in length, or a score is NaN.
 *
 * @example
 * ```ts
 * import { auroc } from "@tokenfilter/tokenfilter/stats";
 * console.assert(auroc(Float64Array.of(0.1, 0.4, 0.35, 0.8), Uint8Array.of(0, 0, 1, 1)) === 0.75);
 * ```
 */
export function auroc(scores: Float64Array, labels: Uint8Array): number {
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
