/** Races: which trials are stopped before they have read all chunks, since they will not be the best. */
import { mean } from "../math/mean.ts";

/** Another trial of a race. Losses are means of the chunks that it has read, in the order that all trials of a race share. */
export interface OtherTrial {
  /** Mean losses of its chunks, to be low. */
  readonly losses: readonly number[];
  /** Whether it has read all chunks. */
  readonly isFinished: boolean;
}

/**
 * Why a trial is to be stopped; null = it continues.
 *
 * @param losses Losses of the trial's chunks so far, in the shared order, at least one; fewer than all.
 * @param others The other trials that it can be compared with: those of the same requested ratio.
 * @param chunks All chunks.
 */
export type Race = (
  losses: readonly number[],
  others: readonly OtherTrial[],
  chunks: number,
) => string | null;

/** Wrong stops of the best trial, as a fraction of the races. */
const LEVEL = 0.01;

/** Variance of the standardised difference that the test is tuned to. */
const SPREAD = 4;

/**
 * Evidence that the mean of differences is not 0, as the factor that a bet against it has won. It is an e-process: if
 * the mean is 0, it ever reaches 1/a with probability at most a, however often one looks.
 *
 * The test is Student's, sequentially: a ratio of likelihoods, with a normal prior on the mean over the deviation and
 * the right Haar prior on the deviation. It is `(1 + n g)^(-1/2) * (Q / (Q - S^2 g / (1 + n g)))^(n / 2)` with the sum
 * S and the sum of squares Q of n differences and g = 4. It is exact for normal differences of unknown variance
 * (Perez-Ortiz and others 2024, "E-statistics, group invariance and anytime-valid testing").
 *
 * @returns 1 where there are no differences.
 */
export function evidenceAgainstZero(differences: readonly number[]): number {
  const n = differences.length, grown = 1 + n * SPREAD;
  let sum = 0, squares = 0;
  for (const x of differences) {
    sum += x;
    squares += x * x;
  }
  if (squares === 0) return 1;
  return grown ** -0.5 * (squares / (squares - sum * sum * SPREAD / grown)) ** (n / 2);
}

/**
 * A trial is stopped once its losses are significantly higher than those of the best finished one on the same chunks: by
 * {@linkcode evidenceAgainstZero} at level 0.01. The best of all is stopped in at most 1% of races.
 */
const sequential: Race = (losses, others) => {
  const finished = others.filter(({ isFinished }) => isFinished);
  if (finished.length === 0) return null;
  const best = finished.reduce((a, b) => mean(b.losses) < mean(a.losses) ? b : a);
  const differences = losses.map((loss, i) => loss - best.losses[i]!), behind = mean(differences);
  if (!(behind > 0) || evidenceAgainstZero(differences) < 1 / LEVEL) return null;
  return `${behind.toPrecision(3)} behind the best on the same chunks`;
};

/** One of this many trials that have come so far continues. */
const REDUCTION = 3;

/**
 * Successive halving without waiting (Li and others 2020). At 1/27, 1/9 and 1/3 of the chunks, a trial continues if it
 * is in the best third of all that have come so far. It saves more, and may lose the best.
 */
const halving: Race = (losses, others, chunks) => {
  const read = losses.length;
  const isRung = [1, 2, 3].some((rung) => read === Math.ceil(chunks / REDUCTION ** rung));
  if (!isRung) return null;
  const own = mean(losses), reached = others.filter((other) => other.losses.length >= read);
  const better = reached.filter((other) => mean(other.losses.slice(0, read)) < own).length;
  const places = Math.max(1, Math.floor((reached.length + 1) / REDUCTION));
  if (better < places) return null;
  return `place ${better + 1} of ${reached.length + 1} after ${read} chunks`;
};

export type RaceName = "sequential" | "halving";

export const RACES: { readonly [name in RaceName]: Race } = { sequential, halving };
