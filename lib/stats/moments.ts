/** Mean and variance of a stream of numbers in constant memory. */
import { expectInstance } from "../errors.ts";

/**
 * Count, mean, population variance and range of numbers that come one by one (Welford's recurrence), or as parts that
 * were taken in elsewhere (Chan, Golub, LeVeque 1979). Any split of a stream merges to the result of the whole, but for
 * rounding errors of about 1e-12 * (1 + mean^2 / variance) relative.
 *
 * @example
 * ```ts
 * import { StreamingMoments } from "@tokenfilter/tokenfilter/stats";
 * const left = new StreamingMoments(), right = new StreamingMoments();
 * [1, 2, 3].forEach((x) => left.add(x));
 * [4, 5].forEach((x) => right.add(x));
 * left.merge(right);
 * console.assert(left.count === 5 && left.mean === 3 && Math.abs(left.variance - 2) < 1e-12);
 * ```
 */
export class StreamingMoments {
  #count = 0;
  #mean = 0;
  #squares = 0;
  #min = Infinity;
  #max = -Infinity;

  /** Numbers taken in. */
  get count(): number {
    return this.#count;
  }

  /** Their mean; NaN where there is none. */
  get mean(): number {
    return this.#count === 0 ? NaN : this.#mean;
  }

  /** Their population variance; NaN where there is none. */
  get variance(): number {
    return this.#count === 0 ? NaN : this.#squares / this.#count;
  }

  /** The smallest; Infinity where there is none. */
  get min(): number {
    return this.#min;
  }

  /** The largest; -Infinity where there is none. */
  get max(): number {
    return this.#max;
  }

  /** Takes a finite number in. @throws {RangeError} If it is not finite. */
  add(x: number): void {
    if (!Number.isFinite(x)) {
      throw new RangeError(`Cannot take moments: found ${x}, expected a finite number`);
    }
    this.#count++;
    const step = x - this.#mean;
    this.#mean += step / this.#count;
    this.#squares += step * (x - this.#mean);
    if (x < this.#min) this.#min = x;
    if (x > this.#max) this.#max = x;
  }

  /** Takes in all that another one has taken in; the other stays as it is. */
  merge(other: StreamingMoments): void {
    expectInstance("other", other, StreamingMoments);
    if (other.#count === 0) return;
    const count = this.#count + other.#count, step = other.#mean - this.#mean;
    this.#squares += other.#squares + step * step * this.#count * other.#count / count;
    this.#mean += step * other.#count / count;
    this.#count = count;
    this.#min = Math.min(this.#min, other.#min);
    this.#max = Math.max(this.#max, other.#max);
  }
}
