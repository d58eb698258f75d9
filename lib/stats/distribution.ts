/** Moments and quantiles of a stream of numbers, as a record. */
import { StreamingMoments } from "./moments.ts";
import { QuantileSketch } from "./quantile_sketch.ts";

/** Fractions at which {@linkcode Distribution.quantiles} are given. */
export const QUANTILE_LEVELS = [0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99] as const;

/** Moments and quantiles of some numbers; all null where there is no number (`count` 0). */
export interface Distribution {
  readonly count: number;
  readonly mean: number | null;
  readonly variance: number | null;
  readonly min: number | null;
  readonly max: number | null;
  /** At {@linkcode QUANTILE_LEVELS}, each within 0.5% of rank. */
  readonly quantiles: readonly (number | null)[];
}

/** Takes numbers in one by one, or from another one, and describes them. */
export class DistributionBuilder {
  readonly #moments = new StreamingMoments();
  readonly #sketch = new QuantileSketch();

  /** Takes a number in; NaN stands for one that is undefined, and is left out. */
  add(x: number): void {
    if (Number.isNaN(x)) return;
    this.#moments.add(x);
    this.#sketch.add(x);
  }

  merge(other: DistributionBuilder): void {
    this.#moments.merge(other.#moments);
    this.#sketch.merge(other.#sketch);
  }

  describe(): Distribution {
    const { count, mean, variance, min, max } = this.#moments;
    const orNull = (x: number) => count === 0 ? null : x;
    return {
      count,
      mean: orNull(mean),
      variance: orNull(variance),
      min: orNull(min),
      max: orNull(max),
      quantiles: QUANTILE_LEVELS.map((level) => orNull(this.#sketch.quantile(level))),
    };
  }
}
