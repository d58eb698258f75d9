/** Budgets by measurement: the ratio at which a method retains a given fraction of the full model's work or memory. */
import { expectBetween } from "../errors.ts";

/** Retained fractions are equal within half a point. */
export const BUDGET_TOLERANCE = 0.005;

/** The highest ratio that is tried, and the width of an interval of ratios that is not divided further. */
const MOST = 0.99, NARROWEST = 0.0005;
const TRIES = 24;

/** @internal The outcome of a search. */
export interface ReachedBudget {
  /** The ratio that comes nearest, and what the method retains there; NaN where it could not run at all. */
  readonly ratio: number;
  readonly retained: number;
  /** Whether that is the target, within half a point. */
  readonly reached: boolean;
  /** The least that it retained at any ratio that was tried. */
  readonly least: number;
}

/**
 * Finds the ratio at which a method retains a target, by measured bisection: it retains all at ratio 0, and less at a higher
 * one. The next ratio lies on the line between the ends of the interval, or in its middle where that does not help.
 *
 * @param target Retained fraction, in (0, 1).
 * @param spend Measures the retained fraction at a ratio; undefined where the method cannot have that ratio.
 * @throws {RangeError} If the target is out of range.
 *
 * @example
 * ```ts
 * const found = await reachBudget(0.3, (ratio) => Promise.resolve(1 - 0.8 * ratio));
 * console.assert(found.reached && Math.abs(found.ratio - 0.875) < 0.01);
 * ```
 */
export async function reachBudget(
  target: number,
  spend: (ratio: number) => Promise<number | undefined>,
): Promise<ReachedBudget> {
  expectBetween("target", target, 0, 1);
  let low = { ratio: 0, retained: 1 }, high: { ratio: number; retained?: number | undefined } | undefined;
  let nearest = { ratio: 0, retained: NaN }, least = 1, ratio = round(1 - target);
  for (let i = 0; i < TRIES; i++) {
    const retained = await spend(ratio);
    if (retained !== undefined) {
      least = Math.min(least, retained);
      const isNearer = !(Math.abs(nearest.retained - target) <= Math.abs(retained - target));
      if (isNearer) nearest = { ratio, retained };
      if (Math.abs(retained - target) <= BUDGET_TOLERANCE) return { ...nearest, reached: true, least };
    }
    if (retained !== undefined && retained > target) low = { ratio, retained };
    else high = { ratio, retained };
    if (low.ratio >= MOST || high !== undefined && high.ratio - low.ratio <= NARROWEST) break;
    ratio = next(low, high, target, i);
  }
  return { ...nearest, reached: false, least };
}

const round = (ratio: number) => Number(Math.min(MOST, ratio).toFixed(4));

/** The next ratio between two ends, the upper one of which may be unknown. */
function next(
  low: { readonly ratio: number; readonly retained: number },
  high: { readonly ratio: number; readonly retained?: number | undefined } | undefined,
  target: number,
  tries: number,
): number {
  if (high === undefined) {
    // Along the line from "all at 0", then as far as it goes.
    const slope = (1 - low.retained) / low.ratio, reach = tries === 0 ? (1 - target) / slope : MOST;
    return round(reach > low.ratio ? reach : MOST);
  }
  const middle = (low.ratio + high.ratio) / 2;
  if (high.retained === undefined || tries % 3 === 2) return round(middle);
  const share = (low.retained - target) / (low.retained - high.retained);
  const at = round(low.ratio + share * (high.ratio - low.ratio));
  return at > low.ratio && at < high.ratio ? at : round(middle);
}
