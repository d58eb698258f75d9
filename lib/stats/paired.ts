/** Means of paired differences with an honest standard error: neighbouring tokens are not independent. */

/** A mean and how sure it is. */
export interface PairedMean {
  /** Mean of all differences. */
  readonly mean: number;
  /** Standard error of the mean; null where there are fewer than two blocks. */
  readonly standardError: number | null;
}

/**
 * Mean of differences whose neighbours depend on each other, with its standard error over blocks.
 *
 * Each segment (a chunk of text) is cut into blocks of `blockSize`; its last block may be shorter. With block sums
 * s_b over n_b values, N values in all, B blocks and mean m:
 * `se = sqrt(B/(B-1) * sum_b (s_b - n_b*m)^2) / N`, which for equal blocks is the standard deviation of the block
 * means over sqrt(B).
 *
 * @throws {RangeError} If there is no value, or the block size is not a positive integer.
 *
 * @example
 * ```ts
 * import { pairedMean } from "@tokenfilter/tokenfilter/stats";
 * const { mean, standardError } = pairedMean([Float64Array.of(1, 1, 3, 3)], 2);
 * console.assert(mean === 2 && standardError === 1);
 * ```
 */
export function pairedMean(segments: readonly Float64Array[], blockSize: number): PairedMean {
  if (!Number.isInteger(blockSize) || blockSize < 1) {
    throw new RangeError(`Cannot cut blocks of ${blockSize}: expected a positive integer`);
  }
  let total = 0, count = 0;
  for (const segment of segments) {
    for (const value of segment) total += value;
    count += segment.length;
  }
  if (count === 0) throw new RangeError("Cannot take a mean: found no value, expected at least one");
  const mean = total / count;
  let blocks = 0, squares = 0;
  for (const segment of segments) {
    for (let start = 0; start < segment.length; start += blockSize) {
      const end = Math.min(start + blockSize, segment.length);
      let excess = 0;
      for (let i = start; i < end; i++) excess += segment[i]! - mean;
      squares += excess * excess;
      blocks++;
    }
  }
  const standardError = blocks < 2 ? null : Math.sqrt((blocks / (blocks - 1)) * squares) / count;
  return { mean, standardError };
}
