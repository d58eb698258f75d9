/** Which axes decide whether a trial is among the best: PED-ANOVA (Watanabe et al. 2023), as in Optuna 5. */
import {
  type Axis,
  countValues,
  isChoice,
  type NumberAxis,
  type Observation,
  type SearchSpace,
  toNumber,
} from "./axis.ts";
import { ChoiceKernels, Mixture, NumberKernels } from "./parzen.ts";
import { chooseGood } from "./tpe.ts";

/** The best fraction of the trials. */
const TARGET = 0.1;
const CELLS = 50;

/** Cells of an axis and, of some trials, how many lie in each. */
function countCells(axis: Axis, values: readonly number[]): number[] {
  if (isChoice(axis)) return axis.choices.map((_, i) => values.filter((value) => value === i).length);
  const { log, step } = axis, inner = log ? Math.log : (x: number) => x;
  const low = inner(axis.low), high = inner(axis.high);
  const all = countValues(axis), doublings = Math.ceil(Math.log(axis.high - axis.low + 1) / Math.LN2) + 1;
  const cells = Math.min(CELLS, log && step > 0 ? doublings : all);
  const counts = new Array<number>(cells).fill(0), size = (high - low) / (cells - 1);
  for (const value of values) {
    const cell = Math.ceil((inner(value) - low) / size - 0.5);
    counts[Math.min(cells - 1, Math.max(0, cell))]!++;
  }
  return counts;
}

/** Density over the cells, smoothed by Scott's rule. */
function smooth(axis: Axis, values: readonly number[]): number[] {
  const counts = countCells(axis, values), last = counts.length - 1;
  const cells = counts.map((_, i) => i).filter((i) => counts[i]! > 0), weights = cells.map((i) => counts[i]!);
  const kernels = isChoice(axis) ? new ChoiceKernels(axis, cells) : scottKernels(cells, weights, last);
  const mixture = new Mixture([...weights, 1], [kernels]);
  return counts.map((_, cell) => Math.exp(mixture.logPdf([cell])) + 1e-12);
}

function scottKernels(cells: readonly number[], weights: readonly number[], last: number): NumberKernels {
  const sum = weights.reduce((a, b) => a + b, 0);
  const mean = cells.reduce((all, cell, i) => all + cell * weights[i]!, 0) / sum;
  const squares = cells.reduce((all, cell, i) => all + (cell - mean) ** 2 * weights[i]!, 0);
  const deviation = Math.sqrt(squares / Math.max(1, sum - 1));
  let below = 0;
  const upTo = weights.map((weight) => below += weight);
  const first = upTo.findIndex((count) => count >= Math.floor(sum / 4));
  const third = upTo.findIndex((count) => count > Math.floor(sum * 3 / 4));
  const between = cells.at(third)! - cells[first]!;
  const width = Math.max(0.5 / 1.64, 1.059 * Math.min(between / 1.34, deviation) * sum ** -0.2);
  const grid: NumberAxis = { name: "", low: 0, high: last, step: 1, log: false };
  const means = Float64Array.from([...cells, last / 2]);
  return new NumberKernels(grid, means, means.map((_, i) => i < cells.length ? width : last + 1));
}

/**
 * Importances of the axes, which add up to 1. An axis is important if the best tenth of the trials differs much from
 * all trials along it: Pearson's divergence of smoothed densities, weighted by how often a conditional axis exists.
 *
 * Trials that were stopped, or that break a constraint, are left out. Several objectives: the best are chosen as in
 * TPE.
 *
 * @returns By axis, largest first; all alike where there is no evidence.
 */
export function pedAnova(
  space: SearchSpace,
  observations: readonly Observation[],
): { readonly [axis: string]: number } {
  const trials = observations.filter(({ state, violation, values }) =>
    state === "finished" && !(violation > 0) && values.length > 0 && values.every(Number.isFinite)
  );
  const best = new Set(trials.length < 2 ? [] : takeBest(trials));
  const found = space.map((axis) =>
    [axis.name, trials.length < 2 ? 0 : divergence(axis, trials, best)] as const
  );
  const sum = found.reduce((all, [, share]) => all + share, 0);
  return Object.fromEntries(
    found.map(([name, share]) => [name, sum === 0 ? 1 / space.length : share / sum] as const)
      .sort(([, a], [, b]) => b - a),
  );
}

/** The best tenth; of one objective, with all that are as good as its last one. */
function takeBest(trials: readonly Observation[]): Observation[] {
  const count = Math.ceil(TARGET * trials.length), chosen = chooseGood(trials, count).map((i) => trials[i]!);
  if (trials[0]!.values.length > 1) return chosen;
  const worst = Math.max(...chosen.map(({ values }) => values[0]!));
  return trials.filter(({ values }) => values[0]! <= worst);
}

function divergence(axis: Axis, trials: readonly Observation[], best: ReadonlySet<Observation>): number {
  const having = trials.filter(({ point }) => Object.hasOwn(point, axis.name));
  const good = having.filter((trial) => best.has(trial));
  if (having.length < 2 || good.length === 0 || countValues(axis) < 2) return 0;
  const values = (own: readonly Observation[]) => own.map(({ point }) => toNumber(axis, point[axis.name]));
  const top = smooth(axis, values(good)), local = smooth(axis, values(having));
  const pearson = local.reduce((sum, density, i) => sum + density * (top[i]! / density - 1) ** 2, 0);
  return (good.length / best.size) ** 2 / (having.length / trials.length) * pearson;
}
