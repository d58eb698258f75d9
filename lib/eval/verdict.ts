/** Two runs on the same items or tokens: their difference, and whether it is significant. */
import { pairedBootstrap } from "../stats/bootstrap.ts";
import { mcnemarTest } from "../stats/mcnemar.ts";
import { benjaminiHochberg } from "../stats/multiple.ts";
import { smallestDetectable } from "../stats/normal.ts";
import { pairedMean, pairedSegments } from "../stats/paired.ts";
import { pairedShareInterval } from "../stats/shares.ts";
import type { Metric } from "./metrics.ts";

export type Verdict = "better" | "worse" | "no significant difference";

/** A run's values less another's, on the same units. */
interface PairedDifference {
  /** Mean over units of the second run less the first: a fraction, or nats. */
  readonly estimate: number;
  /**
   * Lower end of its 95% interval: of fractions of items by Tango's score, else over resampled blocks of units or, by
   * Student's t, over whole segments.
   */
  readonly low: number;
  readonly high: number;
  /** Two-sided: of answers that are right or wrong McNemar's (mid-p), else as the interval. */
  readonly pValue: number;
  /** Units that only the second run has right; for answers that are right or wrong. */
  readonly gained?: number;
  /** Units that only the first run has right. */
  readonly lost?: number;
  /** The smallest true difference that would be found in 80% of such experiments; null where no units differ. */
  readonly smallestDetectable: number | null;
  readonly direction: "better" | "worse";
}

/** A difference among those of a whole table. */
export interface TestedDifference extends Omit<PairedDifference, "direction"> {
  /** Adjusted for all differences of the table, by Benjamini and Hochberg. */
  readonly adjustedPValue: number;
  /** The verdict at 5%, after the adjustment. */
  readonly verdict: Verdict;
}

/**
 * The difference of two runs' values of a metric, unit by unit.
 *
 * @param first Values, in segments (chunks of a text; items are one segment).
 * @param second The same units.
 * @param options.blockSize Units a block: those near each other in a text depend on each other, items do not.
 * @param options.wholeSegments Whether segments are the units, where there are two: an eviction acts on the rest of its chunk.
 * @param options.seed Seed of resamples.
 *
 * @example
 * ```ts
 * const before = [Float64Array.of(0, 0, 1, 1)], after = [Float64Array.of(1, 1, 1, 0)];
 * const { estimate, gained, lost, direction } = differenceOf({ better: "higher", percent: true }, before, after, { blockSize: 1 });
 * console.assert(estimate === 0.25 && gained === 2 && lost === 1 && direction === "better");
 * ```
 */
export function differenceOf(
  { better, percent }: Pick<Metric, "better" | "percent">,
  first: readonly Float64Array[],
  second: readonly Float64Array[],
  { wholeSegments = false, ...options }: {
    readonly blockSize: number;
    readonly wholeSegments?: boolean;
    readonly seed?: number;
    readonly resamples?: number;
  },
): PairedDifference {
  const differences = second.map((values, i) => values.map((value, j) => value - first[i]![j]!));
  const areUnits = wholeSegments && differences.length > 1;
  const { pValue, ...interval } = areUnits
    ? pairedSegments(differences)
    : pairedBootstrap(differences, options);
  const isShare = percent && options.blockSize === 1;
  const { estimate, low, high } = isShare
    ? pairedShareInterval(differences.flatMap((values) => [...values]))
    : interval;
  const block = areUnits ? Math.max(...differences.map(({ length }) => length)) : options.blockSize;
  const { standardError } = pairedMean(differences, block);
  const answers = [first, second].map((all) => all.flatMap((values) => [...values]));
  // Means over seeds are no answers; nor are neighbouring tokens independent, as McNemar has it.
  const isTest = isShare && answers.flat().every((x) => x === 0 || x === 1);
  const paired = isTest ? mcnemarTest(answers[0]!, answers[1]!) : undefined;
  return {
    ...{ estimate, low, high },
    pValue: paired?.pValue ?? pValue,
    ...(paired && { gained: paired.gained, lost: paired.lost }),
    // Where no unit differs, nothing is known of how much they vary.
    smallestDetectable: standardError ? smallestDetectable(standardError) : null,
    direction: (estimate > 0) === (better === "higher") ? "better" : "worse",
  };
}

/**
 * Tests all differences of a table together, at 5%.
 *
 * @param differences Undefined where a row has none: it does not count.
 */
export function testDifferences(
  differences: readonly (PairedDifference | undefined)[],
): (TestedDifference | undefined)[] {
  const adjusted = benjaminiHochberg(differences.flatMap((own) => own === undefined ? [] : [own.pValue]));
  let next = 0;
  return differences.map((own) => {
    if (own === undefined) return undefined;
    const { direction, ...rest } = own, adjustedPValue = adjusted[next++]!;
    return {
      ...rest,
      adjustedPValue,
      verdict: adjustedPValue <= 0.05 ? direction : "no significant difference",
    };
  });
}
