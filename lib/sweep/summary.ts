/** From finished trials to a summary: order and Pareto front. */
import { BLOCK_UNITS, costOf, excessKeys, isOfAnswers, readMetric } from "../eval/metrics.ts";
import type { Task, TaskTypes } from "../eval/task.ts";
import { findTask } from "../eval/tasks/mod.ts";
import { missesRatio, readRecord } from "../methods/bind/options.ts";
import { filtersQueries } from "../methods/bind/sides.ts";
import { dominanceRanks } from "../search/hypervolume.ts";
import { type BlockSums, type Interval, intervalAround, pairedInterval } from "../stats/paired.ts";
import { pairedShareInterval } from "../stats/shares.ts";
import { BUDGETS } from "./budgets.ts";
import { isBaseline } from "./compare/controls.ts";
import type { Environment, SweepSummary, Trial } from "./trial.ts";

function costOfTrial(trial: Trial): number {
  const { headline } = findTask(trial.task);
  return costOf(headline, readMetric(trial, headline.name));
}

/** Whether a trial skipped more than two points more or fewer queries than requested: it is in no ranking. */
export function missesRequested(trial: Trial): boolean {
  return missesRatio(readRecord(trial), trial.achievedRatio);
}

/** The difference of losses, block by block; of answers, one that stays in its range. Undefined where blocks differ. */
export function differ(task: Task, a: BlockSums, b: BlockSums): Interval | undefined {
  const areItems = isOfAnswers(task) && [...a.sizes, ...b.sizes].every((size) => size === 1);
  return areItems && a.sizes.length === b.sizes.length
    ? pairedShareInterval(b.sums.map((sum, i) => sum - a.sums[i]!))
    : pairedInterval(a, b);
}

/**
 * A trial's mean loss above the full model's, with its 95% interval; the ends are NaN where there is one block.
 *
 * @param dense The full model's losses.
 */
export function excessOf(trial: Trial, dense?: BlockSums): Interval {
  const task = findTask(trial.task), { delta, standardError } = excessKeys(task), blocks = trial.lossBlocks;
  const ofAnswers = isOfAnswers(task) && dense && blocks ? differ(task, dense, blocks) : undefined;
  if (ofAnswers !== undefined) return ofAnswers;
  const se = readMetric(trial, standardError);
  const count = blocks?.sums.length ?? Math.ceil(trial.scoredTokens / BLOCK_UNITS);
  return intervalAround(readMetric(trial, delta), Number.isNaN(se) ? null : se, count);
}

/** A trial's requested ratio: of queries, or of keys and values if it only evicts. */
const requestedRatio = (trial: Trial) => filtersQueries(readRecord(trial)) ? trial.pruneRatio : trial.kvRatio;

/**
 * Trials of one task sorted by the requested ratio, then by its headline metric, best first; last those that
 * missed it.
 */
export function sortTrials<T extends Trial>(trials: readonly T[]): T[] {
  const keyed = trials.map((trial) => ({
    trial,
    keys: [requestedRatio(trial), Number(missesRequested(trial)), costOfTrial(trial)] as const,
  }));
  keyed.sort(({ keys: a }, { keys: b }) => a[0] - b[0] || a[1] - b[1] || a[2] - b[2]);
  return keyed.map(({ trial }) => trial);
}

/**
 * Marks the Pareto front: entries for which no other has at least as high a gain and at most as high a cost, with one
 * of the two strictly better. An entry that is not finite in both is never on it.
 *
 * @param gains To be high, such as achieved skip ratios.
 * @param costs To be low, such as perplexities; as many as `gains`.
 * @returns One boolean an entry.
 */
export function paretoFront(gains: readonly number[], costs: readonly number[]): boolean[] {
  const points = gains.map((gain, i) => [-gain, costs[i]!]), front = gains.map(() => false);
  const finite = [...gains.keys()].filter((i) => points[i]!.every(Number.isFinite));
  dominanceRanks(finite.map((i) => points[i]!), 1).forEach((rank, i) => front[finite[i]!] = rank === 0);
  return front;
}

/**
 * Marks the Pareto front: online trials for which no other spends at most as much at a headline metric at least as good.
 * Those that are non-causal are upper bounds and stand outside, and so do controls and those that missed the requested ratio. Fractions count in
 * whole percent, since those that were asked for as one come out a little apart.
 *
 * @param spent Fraction of the full model's that a trial spends.
 * @returns One boolean a trial.
 */
export function frontOf(trials: readonly Trial[], spent: (trial: Trial) => number): boolean[] {
  const saved = (trial: Trial) =>
    trial.nonCausal || isBaseline(readRecord(trial)) || missesRequested(trial) ||
      trial.achievedRatio === null && trial.kvAchievedRatio === null
      ? NaN
      : -Math.round(100 * spent(trial));
  return paretoFront(trials.map(saved), trials.map(costOfTrial));
}

/** Summarises a sweep; `pareto` marks the front of attention's operations, which all methods have in common. */
export function summarizeSweep<T extends TaskTypes>(
  trials: readonly Trial<T>[],
  dense: T["dense"],
  environment: Environment,
): SweepSummary<T> {
  const sorted = sortTrials(trials);
  const front = frontOf(sorted, BUDGETS.attentionFlops.retained);
  return { trials: sorted.map((trial, i) => ({ ...trial, pareto: front[i]! })), dense, environment };
}
