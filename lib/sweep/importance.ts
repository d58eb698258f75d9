/** Which options decide a sweep's results: fractions of the variance over its trials. */
import { solveCholesky } from "../math/cholesky.ts";
import { excessKeys, readMetric } from "../eval/metrics.ts";
import { findTask } from "../eval/tasks/mod.ts";
import { effectiveOptions, readRecord } from "../methods/bind/options.ts";
import type { Trial } from "./trial.ts";

interface OptionEffect {
  /** One option, or the two of an interaction. */
  readonly options: readonly string[];
  /** Fraction of the variance over the trials, in [0, 1]. */
  readonly share: number;
}

/** @internal How much of a measure's variance comes from which option. */
export interface OptionImportance {
  /** Whether the trials are a whole grid, so that the fractions are exact and add up to 1 with `rest`. */
  readonly exact: boolean;
  /** Points of the grid; seeds are averaged. */
  readonly points: number;
  /** Population variance of the measure over the points. */
  readonly variance: number;
  /** Options that vary, and pairs of them where the grid is whole; largest fraction first. */
  readonly effects: readonly OptionEffect[];
  /** Fraction that none of the effects explains: interactions of more options; of any where the grid is not whole. */
  readonly rest: number;
}

/** A measure at one point of the grid, and the level of every option there; -1 where it has no effect. */
interface Point {
  readonly value: number;
  readonly levels: readonly number[];
}

/**
 * Fractions of variance. With a whole grid this is the exact functional ANOVA over it: the variance of the means of an
 * option's values, and for pairs the additional variance of their means.
 *
 * Otherwise an additive model is fitted by least squares, with one effect per value of an option. The effects sum to 0
 * over the trials that have the option: `tau` has no effect on trials of `mean`. An option's fraction is the variance
 * of its effects: half of the mean squared error that permuting the option's column among the trials would add, on
 * average. Where options vary together in the trials, fractions need not add up to 1.
 *
 * The measure is the loss increase (`nllDelta`). Trials without a finite value are left out.
 *
 * @returns Undefined where fewer than two points, or no option, or nothing in the measure varies.
 *
 * @example
 * ```ts
 * import { measureImportance, type Trial } from "@tokenfilter/tokenfilter/sweep";
 * const trials: Trial[] = []; // of summary.json
 * console.assert(measureImportance(trials) === undefined);
 * ```
 */
export function measureImportance(trials: readonly Trial[]): OptionImportance | undefined {
  const { points, names, counts } = collectPoints(trials);
  if (points.length < 2 || names.length === 0) return undefined;
  const mean = points.reduce((sum, { value }) => sum + value, 0) / points.length;
  const variance = points.reduce((sum, { value }) => sum + (value - mean) ** 2, 0) / points.length;
  if (!(variance > 0)) return undefined;
  const exact = points.length === counts.reduce((product, count) => product * count, 1) &&
    points.every(({ levels }) => !levels.includes(-1));
  const effects = exact ? anova(points, names, mean) : additive(points, names, counts, mean);
  const shares = effects.parts.map(({ options, variance: part }) => ({ options, share: part / variance }));
  return {
    exact,
    points: points.length,
    variance,
    effects: shares.sort((a, b) => b.share - a.share),
    rest: Math.max(0, 1 - effects.explained / variance),
  };
}

export function excessLoss(trial: Trial): number {
  return readMetric(trial, excessKeys(findTask(trial.task)).delta);
}

function collectPoints(trials: readonly Trial[]): { points: Point[]; names: string[]; counts: number[] } {
  const finite = trials.filter((trial) => Number.isFinite(excessLoss(trial)));
  const described = finite.map((trial) => {
    const { seed: _, ...options } = effectiveOptions(readRecord(trial));
    return { options: options as { readonly [name: string]: unknown }, value: excessLoss(trial) };
  });
  const levels = new Map<string, string[]>();
  for (const { options } of described) {
    for (const [name, value] of Object.entries(options)) {
      const own = levels.get(name) ?? [], level = JSON.stringify(value);
      if (!own.includes(level)) own.push(level);
      levels.set(name, own);
    }
  }
  const names = [...levels.keys()].filter((name) => levels.get(name)!.length > 1);
  const keyed = Map.groupBy(
    described,
    ({ options }) => JSON.stringify(names.map((name) => options[name] ?? null)),
  );
  const points = [...keyed.values()].map((group) => ({
    value: group.reduce((sum, { value }) => sum + value, 0) / group.length,
    levels: names.map((name) => levels.get(name)!.indexOf(JSON.stringify(group[0]!.options[name]))),
  }));
  return { points, names, counts: names.map((name) => levels.get(name)!.length) };
}

/**
 * Variances of effects, and the variance that all of them explain together: functional ANOVA of a whole grid. All points
 * weigh the same, so effects are means of means.
 */
function anova(points: readonly Point[], names: readonly string[], mean: number) {
  const varianceOfMeans = (axes: readonly number[]) => {
    const cells = Map.groupBy(points, ({ levels }) => axes.map((i) => levels[i]).join());
    const squares = [...cells.values()].map((cell) =>
      (cell.reduce((sum, { value }) => sum + value, 0) / cell.length - mean) ** 2
    );
    return squares.reduce((a, b) => a + b, 0) / squares.length;
  };
  const main = names.map((_, i) => varianceOfMeans([i]));
  const parts = names.map((name, i) => ({ options: [name], variance: main[i]! }));
  for (let i = 0; i < names.length; i++) {
    for (let j = i + 1; j < names.length; j++) {
      const variance = Math.max(0, varianceOfMeans([i, j]) - main[i]! - main[j]!);
      parts.push({ options: [names[i]!, names[j]!], variance });
    }
  }
  return { parts, explained: parts.reduce((sum, { variance }) => sum + variance, 0) };
}

/** Added to the diagonal of the normal equations, relative to the number of points: effects that go together share. */
const RIDGE = 1e-9;

/** The same by least squares on effect-coded options. */
function additive(
  points: readonly Point[],
  names: readonly string[],
  counts: readonly number[],
  mean: number,
) {
  const starts = counts.map((_, i) => counts.slice(0, i).reduce((sum, count) => sum + count, 0));
  const size = counts.reduce((sum, count) => sum + count, 0);
  // A column a value of an option: 1 where it is taken, less its fraction of the trials that have the option.
  const shares = names.map((_, i) => {
    const having = points.filter(({ levels }) => levels[i]! >= 0);
    return Array.from(
      { length: counts[i]! },
      (_, level) => having.filter(({ levels }) => levels[i] === level).length / having.length,
    );
  });
  const row = ({ levels }: Point) => {
    const columns = new Float64Array(size);
    for (const [i, level] of levels.entries()) {
      if (level < 0) continue;
      shares[i]!.forEach((share, k) => columns[starts[i]! + k] = (k === level ? 1 : 0) - share);
    }
    return columns;
  };
  const rows = points.map(row);
  const A = new Float64Array(size * size), b = new Float64Array(size), w = new Float64Array(size);
  for (const [p, columns] of rows.entries()) {
    for (let i = 0; i < size; i++) {
      b[i]! += columns[i]! * (points[p]!.value - mean);
      for (let j = 0; j < size; j++) A[i * size + j]! += columns[i]! * columns[j]!;
    }
  }
  for (let i = 0; i < size; i++) A[i * size + i]! += RIDGE * points.length;
  solveCholesky(A, b, w);
  const varianceOf = (effects: readonly number[]) => {
    const middle = effects.reduce((sum, effect) => sum + effect, 0) / effects.length;
    return effects.reduce((sum, effect) => sum + (effect - middle) ** 2, 0) / effects.length;
  };
  const dot = (columns: Float64Array, from: number, to: number) => {
    let sum = 0;
    for (let k = from; k < to; k++) sum += columns[k]! * w[k]!;
    return sum;
  };
  const parts = names.map((name, i) => ({
    options: [name],
    variance: varianceOf(rows.map((columns) => dot(columns, starts[i]!, starts[i]! + counts[i]!))),
  }));
  const residuals = rows.map((columns, p) => points[p]!.value - mean - dot(columns, 0, size));
  const total = varianceOf(points.map(({ value }) => value));
  return { parts, explained: total - varianceOf(residuals) };
}
