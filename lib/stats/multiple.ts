/** Many tests at once. */
import { expectInstance } from "../errors.ts";

/**
 * p values adjusted for multiple testing as Benjamini and Hochberg (1995) do. If those that are at most a level count
 * as different, the expected fraction of wrong calls among them is at most that level, for independent or positively
 * dependent tests.
 *
 * @param pValues In [0, 1].
 * @returns In the same order: the smallest level at which each is called different.
 * @throws {TypeError | RangeError} If these are no list, or one is not in [0, 1].
 *
 * @example
 * ```ts
 * import { benjaminiHochberg } from "@tokenfilter/tokenfilter/stats";
 * console.assert(benjaminiHochberg([0.04, 0.01, 0.5]).join() === "0.06,0.03,0.5");
 * ```
 */
export function benjaminiHochberg(pValues: readonly number[]): number[] {
  expectInstance("pValues", pValues, Array);
  const wrong = pValues.find((p) => !(p >= 0 && p <= 1));
  if (wrong !== undefined) {
    throw new RangeError(`Cannot adjust p values: found ${wrong}, expected numbers in [0, 1]`);
  }
  const order = pValues.map((_, i) => i).sort((a, b) => pValues[b]! - pValues[a]!);
  const adjusted = new Array<number>(pValues.length);
  let least = 1;
  order.forEach((i, rank) => {
    least = Math.min(least, pValues[i]! * pValues.length / (pValues.length - rank));
    adjusted[i] = least;
  });
  return adjusted;
}
