/** Intervals by resampling, for series whose neighbours depend on each other. */
import { expectBetween, expectInstance, expectInteger, expectOptions, expectTypeOf } from "../errors.ts";
import { quantile } from "../math/quantile.ts";
import { mix64 } from "../math/random.ts";
import { type Interval, sumBlocks } from "./paired.ts";

export type { Interval } from "./paired.ts";

/** @internal Options of {@linkcode blockBootstrap}. */
export interface BootstrapOptions {
  /** Values a block. Default 64. */
  readonly blockSize?: number;
  /** Resamples. Default 2000. */
  readonly resamples?: number;
  /** Fraction of resamples inside the interval. Default 0.95. */
  readonly confidence?: number;
  /** Default 0. */
  readonly seed?: number;
}

const OPTIONS: Record<keyof BootstrapOptions, true> = {
  blockSize: true,
  resamples: true,
  confidence: true,
  seed: true,
};

/** Options with their defaults. @throws {TypeError | RangeError} If one is of the wrong type, or out of range. */
function settle(
  { blockSize = 64, resamples = 2000, confidence = 0.95, seed = 0 }: BootstrapOptions,
): Required<BootstrapOptions> {
  expectInteger("blockSize", blockSize, 1);
  expectInteger("resamples", resamples, 1);
  expectBetween("confidence", confidence, 0, 1);
  expectInteger("seed", seed, 0);
  return { blockSize, resamples, confidence, seed };
}

/**
 * Interval of a statistic of the means of paired series. Blocks of consecutive values are drawn with replacement, the
 * same blocks from every series. The percentiles of the statistic over the draws are the interval.
 *
 * @param series Paired series, each of segments (chunks of a text) of the same lengths; blocks do not cross segments.
 * @param statistic Statistic of the series' means, in the order of the series.
 * @throws {TypeError} If an argument is of the wrong type, or an option unknown.
 * @throws {RangeError} If the series are not paired, or empty, or an option is out of range.
 *
 * @example
 * ```ts
 * import { blockBootstrap } from "@tokenfilter/tokenfilter/stats";
 * const a = [Float64Array.of(1, 2, 3, 4)], b = [Float64Array.of(2, 3, 4, 5)];
 * const { estimate, low, high } = blockBootstrap([a, b], ([x, y]) => y! - x!, { blockSize: 1 });
 * console.assert(estimate === 1 && low === 1 && high === 1);
 * ```
 */
export function blockBootstrap(
  series: readonly (readonly Float64Array[])[],
  statistic: (means: readonly number[]) => number,
  options: BootstrapOptions = {},
): Interval {
  expectOptions(options, OPTIONS);
  const { estimate, drawn } = drawStatistic(series, statistic, options);
  return percentileInterval(estimate, drawn, options.confidence);
}

interface PairedInterval extends Interval {
  /**
   * Two-sided: twice the smaller fraction of resamples on either side of 0, those at 0 on both. It is at least
   * 2^(1 - blocks), the probability that this number of blocks agrees in sign, as resamples of a few blocks vary too
   * little.
   */
  readonly pValue: number;
}

/**
 * Interval of the mean of paired differences (one run's losses less another's, on the same tokens or items), by blocks as
 * {@linkcode blockBootstrap} draws them, and a test that it is 0.
 *
 * @param differences Differences by segment; blocks do not cross segments.
 * @throws {RangeError} If there is no value.
 * @param differences One f64 array [units] for each segment.
 */
export function pairedBootstrap(
  differences: readonly Float64Array[],
  options: BootstrapOptions = {},
): PairedInterval {
  const { estimate, drawn, blocks } = drawStatistic([differences], ([mean]) => mean!, options);
  const share = (holds: (draw: number) => boolean) => (drawn.filter(holds).length + 1) / (drawn.length + 1);
  const resampled = Math.min(1, 2 * Math.min(share((draw) => draw <= 0), share((draw) => draw >= 0)));
  const pValue = Math.max(resampled, 2 ** (1 - blocks));
  return { ...percentileInterval(estimate, drawn, options.confidence), pValue };
}

function drawStatistic(
  series: readonly (readonly Float64Array[])[],
  statistic: (means: readonly number[]) => number,
  options: BootstrapOptions,
): { readonly estimate: number; readonly drawn: Float64Array; readonly blocks: number } {
  const { blockSize, resamples, seed } = settle(options);
  expectInstance("series", series, Array);
  expectTypeOf("statistic", statistic, "function");
  const blocks = series.map((segments) => sumBlocks(segments, blockSize));
  const lengths = series.map((segments) => segments.map((segment) => segment.length).join());
  if (new Set(lengths).size > 1) {
    throw new RangeError(
      `Cannot resample: found segments of ${lengths.join(" and ")}, expected paired series`,
    );
  }
  if (!blocks[0]?.sums.length) throw new RangeError("Cannot resample: found no value, expected at least one");
  const count = blocks[0]!.sums.length;
  const meansOf = (draw: (i: number) => number) =>
    blocks.map(({ sums, sizes }) => {
      let sum = 0, size = 0;
      for (let i = 0; i < count; i++) {
        const block = draw(i);
        sum += sums[block]!;
        size += sizes[block]!;
      }
      return sum / size;
    });
  const picks = drawBlocks(count, resamples, seed);
  const drawn = Float64Array.from(
    { length: resamples },
    (_, resample) => statistic(meansOf((i) => picks[resample * count + i]!)),
  );
  return { estimate: statistic(meansOf((i) => i)), drawn, blocks: count };
}

/** Blocks of the last resamples: a table draws the same ones for each of its rows, and drawing them takes longest. */
let lastDrawn: { readonly key: string; readonly picks: Int32Array } | undefined;

/** Numbers of blocks drawn with replacement, [resamples * count]. */
function drawBlocks(count: number, resamples: number, seed: number): Int32Array {
  const key = `${count} ${resamples} ${seed}`;
  if (lastDrawn?.key === key) return lastDrawn.picks;
  const picks = new Int32Array(resamples * count), base = BigInt(seed) << 48n, below = BigInt(count);
  for (let resample = 0, at = 0; resample < resamples; resample++) {
    const start = base + (BigInt(resample) << 24n);
    for (let i = 0; i < count; i++) picks[at++] = Number(mix64(start + BigInt(i)) % below);
  }
  lastDrawn = { key, picks };
  return picks;
}

/** Resamples of paired series by moving blocks: how often each value was drawn. */
export interface MovingBlocks {
  readonly length: number;
  readonly resamples: number;
  /** Fills `counts`, [length], with how often a resample holds each value; they add up to `length`. */
  fill(resample: number, counts: Float64Array): void;
}

/**
 * Draws moving blocks: overlapping blocks of consecutive values, each start as likely as any other, until a resample is
 * as long as the series (its last block is cut). A block that runs over the end of its segment continues at the
 * segment's beginning (the circular block bootstrap of Politis and Romano 1992). Every value is thus drawn equally
 * often; otherwise the ends of each segment would count less. A segment shorter than a block is one. Counts instead of
 * copies let a statistic that needs sorted values sort them once for all resamples.
 *
 * @param lengths Values in each segment (chunk of a text).
 * @throws {RangeError} If there is no value, or an option is no positive integer.
 */
export function drawMovingBlocks(
  lengths: readonly number[],
  options: Omit<BootstrapOptions, "confidence"> = {},
): MovingBlocks {
  const { blockSize, resamples, seed } = settle(options);
  const length = lengths.reduce((a, b) => a + b, 0);
  expectInteger("length", length, 1);
  const firsts = new Int32Array(length), sizes = new Int32Array(length); // of the segment that a value lies in
  lengths.reduce((first, size) => {
    firsts.fill(first, first, first + size);
    sizes.fill(size, first, first + size);
    return first + size;
  }, 0);
  const drawn = Array.from({ length: resamples }, (_, resample) => {
    const picks: number[] = [];
    for (let held = 0, i = 0; held < length; i++) {
      const counter = (BigInt(seed) << 48n) + (BigInt(resample) << 24n) + BigInt(i);
      const start = Number(mix64(counter) % BigInt(length));
      picks.push(start);
      held += Math.min(blockSize, sizes[start]!);
    }
    return Int32Array.from(picks);
  });
  return {
    length,
    resamples,
    fill(resample, counts) {
      counts.fill(0);
      let left = length;
      for (const start of drawn[resample]!) {
        const first = firsts[start]!, end = first + sizes[start]!;
        const size = Math.min(blockSize, sizes[start]!, left);
        for (let i = 0, at = start; i < size; i++) {
          counts[at]!++;
          at = at + 1 === end ? first : at + 1;
        }
        left -= size;
      }
    },
  };
}

/**
 * The percentiles of a statistic over resamples as an interval around its estimate. Resamples without a number (NaN) do not count.
 *
 * @param draws [resamples] f64, in any order.
 */
export function percentileInterval(estimate: number, draws: Float64Array, confidence = 0.95): Interval {
  expectBetween("confidence", confidence, 0, 1);
  const sorted = draws.filter((draw) => !Number.isNaN(draw)).sort();
  if (sorted.length === 0) {
    throw new RangeError("Cannot take an interval: found no resample with a number, expected at least one");
  }
  return {
    estimate,
    low: quantile(sorted, (1 - confidence) / 2),
    high: quantile(sorted, (1 + confidence) / 2),
  };
}
