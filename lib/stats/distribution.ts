/** Moments and quantiles of a stream of numbers, as a record. */
import { type Distribution, QUANTILE_LEVELS } from "./head_report.ts";
import { StreamingMoments } from "./moments.ts";
import { QuantileSketch } from "./quantile_sketch.ts";

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

  /** Takes in all that another one has taken in. */
  merge(other: DistributionBuilder): void {
    this.#moments.merge(other.#moments);
    this.#sketch.merge(other.#sketch);
  }

  /** What is known so far. */
  describe(): Distribution {
    const { count, mean, variance, min, max } = this.#moments;
    if (count === 0) {
      return {
        count,
        mean: null,
        variance: null,
        min: null,
        max: null,
        quantiles: QUANTILE_LEVELS.map(() => null),
      };
    }
    return {
      count,
      mean,
      variance,
      min,
      max,
      quantiles: QUANTILE_LEVELS.map((level) => this.#sketch.quantile(level)),
    };
  }
}
