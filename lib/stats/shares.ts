/** Intervals of proportions and of their differences, as of right answers: inside their range, and of some width, at few items too. */
import { expectBetween } from "../errors.ts";
import { normalQuantile } from "./normal.ts";
import type { Interval } from "./paired.ts";

/** Standard errors on either side of an interval. */
const errorsOf = (confidence: number) => {
  expectBetween("confidence", confidence, 0, 1);
  return normalQuantile((1 + confidence) / 2);
};

/** Wilson's score interval of a fraction (1927). @param count Items, at least one. */
export function shareInterval(share: number, count: number, confidence = 0.95): Interval {
  const z = errorsOf(confidence), extra = z * z / count;
  const centre = (share + extra / 2) / (1 + extra);
  const half = z / (1 + extra) * Math.sqrt(share * (1 - share) / count + extra / (4 * count));
  return { estimate: share, low: Math.max(0, centre - half), high: Math.min(1, centre + half) };
}

/**
 * Tango's score interval of the difference of two paired shares (Statistics in Medicine 17, 1998).
 *
 * Answers that are right or wrong differ by -1, 0 or 1. Differences between these (means over seeds, several answers per item)
 * count by their size: their squares add up to less, so the interval is too wide and never too narrow.
 *
 * @param differences One per item, in [-1, 1]; at least one.
 */
export function pairedShareInterval(differences: readonly number[], confidence = 0.95): Interval {
  const z = errorsOf(confidence), count = differences.length;
  const mean = (of: (difference: number) => number) =>
    differences.reduce((sum, difference) => sum + of(difference), 0) / count;
  const gained = mean((difference) => Math.max(difference, 0));
  const lost = mean((difference) => Math.max(-difference, 0));
  const estimate = gained - lost;
  /** The estimate's distance from a true difference, in standard errors at the likeliest fraction of lost items. */
  const scoreOf = (delta: number) => {
    const b = (2 - estimate) * delta - gained - lost, c = -lost * delta * (1 - delta);
    const likeliest = (Math.sqrt(Math.max(0, b * b - 8 * c)) - b) / 4;
    return (estimate - delta) / Math.sqrt((2 * likeliest + delta * (1 - delta)) / count);
  };
  /** The true difference between two whose score is so large; scores fall from the lower one on. */
  const findDelta = (low: number, high: number, score: number) => {
    for (let i = 0; i < 60; i++) {
      const middle = (low + high) / 2;
      if (scoreOf(middle) > score) low = middle;
      else high = middle;
    }
    return (low + high) / 2;
  };
  return { estimate, low: findDelta(-1, estimate, z), high: findDelta(estimate, 1, -z) };
}

/**
 * The mean of estimates that do not depend on each other, as of several tasks, with the interval that theirs give: by the
 * method of variance estimates recovery (Zou and Donner, Statistics in Medicine 27, 2008).
 *
 * @param intervals At least one, all of one confidence.
 *
 * @example
 * ```ts
 * const tasks = [{ estimate: 0.5, low: 0.2, high: 0.9 }, { estimate: 0.7, low: 0.3, high: 1 }];
 * const { estimate, low, high } = meanOfIntervals(tasks);
 * console.assert(estimate === 0.6 && Math.abs(low - 0.35) < 1e-9 && Math.abs(high - 0.85) < 1e-9);
 * ```
 */
export function meanOfIntervals(intervals: readonly Interval[]): Interval {
  const count = intervals.length, estimate = intervals.reduce((sum, own) => sum + own.estimate, 0) / count;
  const reach = (of: (own: Interval) => number) => Math.hypot(...intervals.map(of)) / count;
  return {
    estimate,
    low: estimate - reach(({ estimate, low }) => estimate - low),
    high: estimate + reach(({ estimate, high }) => high - estimate),
  };
}
