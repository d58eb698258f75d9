/** From finished trials to a summary: order and Pareto front. */
import { costOf, readMetric } from "../eval/metrics.ts";
import type { TaskTypes } from "../eval/task.ts";
import { findTask } from "../eval/tasks/mod.ts";
import { filtersQueries } from "../methods/sides.ts";
import { missesRatio, readRecord } from "../methods/options.ts";
import { paretoFront } from "./pareto.ts";
import type { Environment, SweepSummary, Trial } from "./trial.ts";

/** A trial's headline metric as a cost. */
function costOfTrial(trial: Trial): number {
  const { headline } = findTask(trial.task);
  return costOf(headline, readMetric(trial, headline.name));
}

/** Whether a trial skipped more than two points more or less than asked: it is in no ranking. */
export function missesAsked(trial: Trial): boolean {
  return missesRatio(readRecord(trial), trial.achievedRatio);
}

/** Trials of one task sorted by pruneRatio, then by its headline metric, best first; last those that missed the ratio. */
export function sortTrials<T extends Trial>(trials: readonly T[]): T[] {
  return trials.toSorted((a, b) =>
    a.pruneRatio - b.pruneRatio || Number(missesAsked(a)) - Number(missesAsked(b)) ||
    costOfTrial(a) - costOfTrial(b)
  );
}

/**
 * Summarises a sweep. The Pareto front is that of achieved ratio (high) against the headline metric (best) over on-line
 * trials: those that look ahead are upper bounds and stand outside, and so do those that missed the asked ratio, and those
 * of keys and values alone, which skip no attention. Ratios count in whole percent, since those that
 * were asked for as one come out a little apart.
 */
export function summarizeSweep<T extends TaskTypes>(
  trials: readonly Trial<T>[],
  dense: T["dense"],
  environment: Environment,
): SweepSummary<T> {
  const sorted = sortTrials(trials);
  const gain = (trial: Trial) =>
    trial.looksAhead || trial.achievedRatio === null || missesAsked(trial) || !filtersQueries(trial)
      ? NaN
      : Math.round(100 * trial.achievedRatio);
  const front = paretoFront(sorted.map(gain), sorted.map(costOfTrial));
  return { trials: sorted.map((trial, i) => ({ ...trial, pareto: front[i]! })), dense, environment };
}
