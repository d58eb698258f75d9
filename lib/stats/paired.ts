/** Means of paired differences with an honest standard error: neighbouring tokens are not independent. */
import { expectBetween, expectInstance, expectInteger } from "../errors.ts";

/** An estimate and the interval around it. */
export interface Interval {
  /** The statistic of the series as they are. */
  readonly estimate: number;
  /** Lower end. */
  readonly low: number;
  /** Upper end. */
  readonly high: number;
}

/** @internal A mean and how sure it is. */
export interface PairedMean {
  readonly mean: number;
  /** Standard error of the mean; null where there are fewer than two blocks. */
  readonly standardError: number | null;
}

/**
 * Mean of differences whose neighbours depend on each other, with its standard error over blocks ({@linkcode sumBlocks}). With
 * block sums s_b over n_b values, N values in all, B blocks and mean m: `se = sqrt(B/(B-1) * sum_b (s_b - n_b*m)^2) / N`,
 * which for equal blocks is the standard deviation of the block means over sqrt(B).
 *
 * @throws {TypeError | RangeError} If there is no value, or as {@linkcode sumBlocks} does.
 * @param segments One f64 array [units] each.
 */
export function pairedMean(segments: readonly Float64Array[], blockSize: number): PairedMean {
  return meanOfBlocks(sumBlocks(segments, blockSize));
}

/** The mean of means that do not depend on each other, as of several tasks. */
export function meanOfMeans(means: readonly PairedMean[]): PairedMean {
  const count = means.length, errors = means.map(({ standardError }) => standardError);
  return {
    mean: means.reduce((sum, { mean }) => sum + mean, 0) / count,
    standardError: errors.includes(null) ? null : Math.hypot(...errors as number[]) / count,
  };
}

/** @internal Values known by their sums over blocks of neighbours; of plain JSON. */
export interface BlockSums {
  readonly sums: readonly number[];
  readonly sizes: readonly number[];
}

/**
 * Sums values over blocks of neighbours; blocks do not cross segments, and the last one of a segment may be shorter.
 *
 * @throws {TypeError} If a segment is no `Float64Array`.
 * @throws {RangeError} If the block size is not a positive integer.
 * @param segments One f64 array [units] each.
 */
export function sumBlocks(segments: readonly Float64Array[], blockSize: number): BlockSums {
  expectInteger("blockSize", blockSize, 1);
  expectInstance("segments", segments, Array);
  const sums: number[] = [], sizes: number[] = [];
  for (const segment of segments) {
    expectInstance("segment", segment, Float64Array);
    for (let start = 0; start < segment.length; start += blockSize) {
      const block = segment.subarray(start, start + blockSize);
      sums.push(block.reduce((a, b) => a + b, 0));
      sizes.push(block.length);
    }
  }
  return { sums, sizes };
}

function meanOfBlocks({ sums, sizes }: BlockSums): PairedMean {
  const count = sizes.reduce((a, b) => a + b, 0), blocks = sums.length;
  if (count === 0) throw new RangeError("Cannot take a mean: found no value, expected at least one");
  const mean = sums.reduce((a, b) => a + b, 0) / count;
  const squares = sums.reduce((all, sum, i) => all + (sum - sizes[i]! * mean) ** 2, 0);
  const standardError = blocks < 2 ? null : Math.sqrt((blocks / (blocks - 1)) * squares) / count;
  return { mean, standardError };
}

/**
 * Mean of the differences of two series with the same blocks, `b - a`, with its interval: Student's t over the blocks.
 *
 * @returns Undefined where the blocks are not the same ones; the ends are NaN where there is one block.
 * @throws {TypeError} If these are no sums of blocks.
 * @throws {RangeError} If the confidence is not in (0, 1), or there is no value.
 *
 * @example
 * ```ts
 * import { pairedInterval } from "@tokenfilter/tokenfilter/stats";
 * const sizes = [2, 2], a = { sums: [2, 6], sizes }, b = { sums: [4, 8], sizes };
 * const { estimate, low, high } = pairedInterval(a, b)!;
 * console.assert(estimate === 1 && low === 1 && high === 1);
 * ```
 */
export function pairedInterval(a: BlockSums, b: BlockSums, confidence: number = 0.95): Interval | undefined {
  for (const { sums, sizes } of [a, b]) {
    expectInstance("sums", sums, Array);
    expectInstance("sizes", sizes, Array);
  }
  expectBetween("confidence", confidence, 0, 1);
  if (String(a.sizes) !== String(b.sizes)) return undefined;
  const { mean, standardError } = meanOfBlocks({
    sums: b.sums.map((sum, i) => sum - a.sums[i]!),
    sizes: a.sizes,
  });
  return intervalAround(mean, standardError, a.sizes.length, confidence);
}

/**
 * Mean of paired differences whose segments are the units: Student's t over segments, and its test that the mean is 0.
 *
 * @param differences Differences by segment, of at least two.
 * @param differences One f64 array [units] for each segment.
 */
export function pairedSegments(differences: readonly Float64Array[]): Interval & { readonly pValue: number } {
  const longest = Math.max(...differences.map(({ length }) => length)), degrees = differences.length - 1;
  const { mean, standardError } = pairedMean(differences, longest);
  expectInteger("segments", degrees, 1);
  const t = mean === 0 ? 0 : Math.abs(mean) / standardError!;
  return { ...intervalAround(mean, standardError, degrees + 1), pValue: 1 - studentShare(t, degrees) };
}

/** The interval of a mean over a number of blocks by Student's t; its ends are NaN where there is no standard error. */
export function intervalAround(
  estimate: number,
  standardError: number | null,
  blocks: number,
  confidence: number = 0.95,
): Interval {
  const half = standardError === null ? NaN : studentT(confidence, blocks - 1) * standardError;
  return { estimate, low: estimate - half, high: estimate + half };
}

/** The t between whose negative and which a fraction `confidence` of Student's t distribution lies, by bisection. */
export function studentT(confidence: number, degrees: number): number {
  let low = 0, high = Math.PI / 2;
  for (let i = 0; i < 60; i++) {
    const middle = (low + high) / 2;
    if (studentShare(Math.sqrt(degrees) * Math.tan(middle), degrees) < confidence) low = middle;
    else high = middle;
  }
  return Math.sqrt(degrees) * Math.tan(low);
}

/**
 * The fraction of Student's t distribution between -t and t: its finite series in the angle `atan(t / sqrt(degrees))`
 * (Abramowitz and Stegun, 26.7.3 and 26.7.4).
 */
function studentShare(t: number, degrees: number): number {
  const isOdd = degrees % 2 === 1, angle = Math.atan(t / Math.sqrt(degrees)), cos = Math.cos(angle);
  let sum = 0, term = isOdd ? cos : 1;
  for (let i = isOdd ? 1 : 0; i <= degrees - 2; i += 2) {
    sum += term;
    term *= cos * cos * (i + 1) / (i + 2);
  }
  return isOdd ? 2 / Math.PI * (angle + Math.sin(angle) * sum) : Math.sin(angle) * sum;
}
