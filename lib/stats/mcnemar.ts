/** Two methods' right and wrong answers on the same items. */
import { expectInstance } from "../errors.ts";

/** @internal A test of paired fractions. */
export interface McNemar {
  /** Items that only the second one has right. */
  readonly gained: number;
  /** Items that only the first one has right. */
  readonly lost: number;
  /** Mid-p value, two-sided: its rate of false positives is near the level; that of the exact test is below it. */
  readonly pValue: number;
  /** Exact p value, two-sided: never rejects too often. */
  readonly exactPValue: number;
}

/**
 * McNemar's test of whether two methods are right equally often: of the items on which they differ each is as likely to
 * be gained as lost. Exact, by the binomial distribution; mid-p as Fagerland, Lydersen and Laake (2013) advise.
 *
 * @param first 0 or 1 an item.
 * @param second The same items, in the same order.
 * @throws {TypeError} If these are no lists.
 * @throws {RangeError} If there are not as many of both.
 *
 * @example
 * ```ts
 * import { mcnemarTest } from "@tokenfilter/tokenfilter/stats";
 * const { gained, lost, exactPValue } = mcnemarTest([1, 1, 1, 1, 1, 0], [0, 0, 0, 0, 0, 0]);
 * console.assert(gained === 0 && lost === 5 && exactPValue === 2 / 32);
 * ```
 */
export function mcnemarTest(first: readonly number[], second: readonly number[]): McNemar {
  expectInstance("first", first, Array);
  expectInstance("second", second, Array);
  if (first.length !== second.length) {
    throw new RangeError(`Cannot pair ${first.length} items with ${second.length}: expected as many`);
  }
  const gained = first.filter((right, i) => right < second[i]!).length;
  const lost = first.filter((right, i) => right > second[i]!).length;
  const count = gained + lost, least = Math.min(gained, lost);
  // Logarithms: 2^-count underflows from 1,075 on.
  let log = -count * Math.LN2, below = 0;
  for (let i = 0; i < least; i++) {
    below += Math.exp(log);
    log += Math.log((count - i) / (i + 1));
  }
  const at = Math.exp(log);
  return { gained, lost, pValue: Math.min(1, 2 * below + at), exactPValue: Math.min(1, 2 * (below + at)) };
}
