/** Intervals by resampling, for series whose neighbours depend on each other. */
import { quantile } from "../filter/threshold.ts";
import { mix64 } from "../random.ts";

/** An estimate and the interval around it. */
export interface Interval {
  /** The statistic of the series as they are. */
  readonly estimate: number;
  /** Lower end. */
  readonly low: number;
  /** Upper end. */
  readonly high: number;
}

/** Options of {@linkcode blockBootstrap}. */
export interface BootstrapOptions {
  /** Values a block. Default 64. */
  readonly blockSize?: number;
  /** Resamples. Default 2000. */
  readonly resamples?: number;
  /** Share of resamples inside the interval. Default 0.95. */
  readonly confidence?: number;
  /** Default 0. */
  readonly seed?: number;
}

/**
 * Interval of a statistic of the means of paired series: blocks of consecutive values are drawn with replacement, the
 * same blocks from every series, and the percentiles of the statistic over the draws are the interval.
 *
 * @param series Paired series, each of segments (chunks of a text) of the same lengths; blocks do not cross segments.
 * @param statistic Of the series' means, in their order.
 * @throws {RangeError} If the series are not paired, or empty.
 *
 * @example
 * ```ts
 * import { blockBootstrap } from "@tokenfilter/tokenfilter";
 * const a = [Float64Array.of(1, 2, 3, 4)], b = [Float64Array.of(2, 3, 4, 5)];
 * const { estimate, low, high } = blockBootstrap([a, b], ([x, y]) => y! - x!, { blockSize: 1 });
 * console.assert(estimate === 1 && low === 1 && high === 1);
 * ```
 */
export function blockBootstrap(
  series: readonly (readonly Float64Array[])[],
  statistic: (means: readonly number[]) => number,
  { blockSize = 64, resamples = 2000, confidence = 0.95, seed = 0 }: BootstrapOptions = {},
): Interval {
  const lengths = series.map((segments) => segments.map((segment) => segment.length).join());
  if (new Set(lengths).size !== 1 || lengths[0] === "") {
    throw new RangeError(
      `Cannot resample: found segments of ${lengths.join(" and ")}, expected paired series`,
    );
  }
  const blocks = series.map((segments) => segments.flatMap((segment) => sumBlocks(segment, blockSize)));
  const count = blocks[0]!.length;
  const meansOf = (draw: (i: number) => number) =>
    blocks.map((own) => {
      let sum = 0, size = 0;
      for (let i = 0; i < count; i++) {
        const block = own[draw(i)]!;
        sum += block.sum;
        size += block.size;
      }
      return sum / size;
    });
  const drawn = Float64Array.from({ length: resamples }, (_, resample) => {
    const picks = Array.from(
      { length: count },
      (_, i) => Number(mix64((BigInt(seed) << 48n) + (BigInt(resample) << 24n) + BigInt(i)) % BigInt(count)),
    );
    return statistic(meansOf((i) => picks[i]!));
  }).sort();
  return {
    estimate: statistic(meansOf((i) => i)),
    low: quantile(drawn, (1 - confidence) / 2),
    high: quantile(drawn, (1 + confidence) / 2),
  };
}

function sumBlocks(segment: Float64Array, blockSize: number): { sum: number; size: number }[] {
  const blocks = [];
  for (let at = 0; at < segment.length; at += blockSize) {
    const block = segment.subarray(at, at + blockSize);
    blocks.push({ sum: block.reduce((a, b) => a + b, 0), size: block.length });
  }
  return blocks;
}
