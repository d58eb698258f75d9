/** From finished trials to a summary: order and Pareto front. */
import type { DenseResult } from "../eval/perplexity.ts";
import { paretoFront } from "./pareto.ts";
import type { Environment, SweepSummary, Trial } from "./trial.ts";

/** Trials sorted by pruneRatio, then perplexity. */
export function sortTrials<T extends Trial>(trials: readonly T[]): T[] {
  return trials.toSorted((a, b) => a.pruneRatio - b.pruneRatio || a.perplexity - b.perplexity);
}

/**
 * Summarises a sweep. The Pareto front is that of achieved ratio (high) against perplexity (low) over on-line
 * trials: those that look ahead are upper bounds and stand outside. Ratios count in whole percent, since those that
 * were asked for as one come out a little apart.
 */
export function summarizeSweep(
  trials: readonly Trial[],
  dense: DenseResult,
  environment: Environment,
): SweepSummary {
  const sorted = sortTrials(trials);
  const gain = (trial: Trial) =>
    trial.looksAhead || trial.achievedRatio === null ? NaN : Math.round(100 * trial.achievedRatio);
  const front = paretoFront(sorted.map(gain), sorted.map((trial) => trial.perplexity));
  return { trials: sorted.map((trial, i) => ({ ...trial, pareto: front[i]! })), dense, environment };
}
