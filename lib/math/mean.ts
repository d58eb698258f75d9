/** The mean of numbers, which several rooms take. */

/** The mean; NaN of nothing. @param values [n]. */
export function mean(values: readonly number[] | Float64Array): number {
  let sum = 0;
  for (const value of values) sum += value;
  return sum / values.length;
}
