/** Budgets by measurement: the ratio at which a method retains a given fraction of the full model's work or memory. */

/** Retained fractions are equal within half a point. */
export const BUDGET_TOLERANCE = 0.005;

/** The highest ratio that is tried. */
export const HIGHEST_RATIO = 0.99;
/** The width of an interval of ratios that is not divided further. */
const NARROWEST = 0.0005;

/** @internal The outcome of a search. */
interface ReachedBudget {
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
 * one. The next ratio lies on the line through the last two, or in the middle of the interval where that does not help.
 *
 * @param target Retained fraction, in (0, 1].
 * @param spend Measures the retained fraction at a ratio; undefined where the method cannot have that ratio.
 * @param search The ratio that is tried first, and how many are tried at most; default: 1 - target, 24.
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
  { first = round(1 - target), most = 24 }: { readonly first?: number; readonly most?: number } = {},
): Promise<ReachedBudget> {
  if (!(target > 0 && target <= 1)) {
    throw new RangeError(`Cannot use "target": found ${target}, expected a number in (0, 1]`);
  }
  let low = 0, high: number | undefined, last = { ratio: 0, retained: 1 };
  let nearest = { ratio: 0, retained: NaN }, least = 1, ratio = first;
  for (let i = 0; i < most; i++) {
    const retained = await spend(ratio);
    let onLine = NaN;
    if (retained !== undefined) {
      least = Math.min(least, retained);
      const isNearer = !(Math.abs(nearest.retained - target) <= Math.abs(retained - target));
      if (isNearer) nearest = { ratio, retained };
      if (Math.abs(retained - target) <= BUDGET_TOLERANCE) return { ...nearest, reached: true, least };
      onLine = round(ratio + (target - retained) * (ratio - last.ratio) / (retained - last.retained));
      last = { ratio, retained };
    }
    if (retained !== undefined && retained > target) low = ratio;
    else high = ratio;
    if (low >= HIGHEST_RATIO || high !== undefined && high - low <= NARROWEST) break;
    const isInside = onLine > low && onLine < (high ?? Infinity);
    // A line may creep towards the target from one side: after six tries, every third one halves the interval.
    if (high === undefined) ratio = isInside ? onLine : HIGHEST_RATIO;
    else ratio = isInside && (i < 6 || i % 3 < 2) ? onLine : round((low + high) / 2);
  }
  return { ...nearest, reached: false, least };
}

const round = (ratio: number) => Number(Math.min(HIGHEST_RATIO, ratio).toFixed(4));
