/** Moments and quantiles of numbers, as a record. */
import { mean } from "../math/mean.ts";
import { quantile } from "../math/quantile.ts";

/** Fractions at which {@linkcode Distribution.quantiles} are given. */
export const QUANTILE_LEVELS = [0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99] as const;

/** Moments (variance of the population) and quantiles of numbers; all null where there is no number (`count` 0). */
export interface Distribution {
  readonly count: number;
  readonly mean: number | null;
  readonly variance: number | null;
  readonly min: number | null;
  readonly max: number | null;
  /** At {@linkcode QUANTILE_LEVELS}. */
  readonly quantiles: readonly (number | null)[];
}

/** The mean; null where one of the numbers is. */
export function meanOrNull(values: readonly (number | null)[]): number | null {
  return values.includes(null) ? null : mean(values as readonly number[]);
}

/** Describes numbers; NaN is a number that is undefined, and is left out. */
export function describeNumbers(numbers: ArrayLike<number>): Distribution {
  const sorted = Float64Array.from(numbers).filter((x) => !Number.isNaN(x)).sort();
  const count = sorted.length, middle = mean(sorted), orNull = (x: number) => count === 0 ? null : x;
  return {
    count,
    mean: orNull(middle),
    variance: orNull(mean(sorted.map((x) => (x - middle) ** 2))),
    min: orNull(sorted[0]!),
    max: orNull(sorted.at(-1)!),
    quantiles: QUANTILE_LEVELS.map((level) => orNull(quantile(sorted, level))),
  };
}
