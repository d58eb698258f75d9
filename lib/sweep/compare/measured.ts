/** The summary of a method's runs in a comparison, and its opponents. */
import type { Task, TaskResult } from "../../eval/task.ts";
import { blockOf, type Metric, metricOfUnits, valuesOfUnits } from "../../eval/metrics.ts";
import { mean } from "../../math/mean.ts";
import { nonCausal, type ResolvedOptions } from "../../methods/bind/options.ts";
import { filtersQueries } from "../../methods/bind/sides.ts";
import { meanOrNull } from "../../stats/distribution.ts";
import { mapBudgets, type Retained } from "../budgets.ts";
import type { NamedMethod } from "./compared_methods.ts";
import { type Control, controlFor, isBaseline, seedlessKey } from "./controls.ts";
import { type Matched, ownBudget } from "./match.ts";
import type { ComparedSeries, Contender, Reach } from "./verdicts.ts";

export interface MethodGroup {
  readonly name: string;
  readonly methods: readonly NamedMethod[];
}

/** Time and memory of a run, next to fractions of the full model's budgets. */
export interface Spent {
  /** Wall time of the forward passes, without logits; mean over seeds. */
  readonly timeMs: number;
  /** Bytes of keys and values in use at the end of a chunk; mean over chunks and seeds. */
  readonly kvBytesHeld: number;
  /** Bytes that are allocated for them, likewise. */
  readonly kvBytesAllocated: number;
}

/** Losses of one method, and the other results of its runs. */
export interface Measured extends MethodGroup {
  /** The requested ratio, where a comparison has several. */
  readonly asked: number | undefined;
  /** The options that were asked for, which its controls share; `methods` have those that it ran with. */
  readonly options: ResolvedOptions | undefined;
  readonly matched?: Matched;
  readonly losses: Float64Array;
  readonly means: readonly number[];
  /** Mean over seeds; null if nothing could be skipped. */
  readonly ratio: number | null;
  readonly missed: boolean;
  readonly kvRatio: number | null;
  readonly retained: Retained;
  readonly metrics: { readonly [name: string]: Float64Array };
  readonly spent: Spent;
  readonly perLayer: PerLayer;
  readonly reach?: Reach;
}

/** The reach of runs, where they are of items; mean over them. */
function reachOfRuns(runs: readonly Partial<Reach>[]): { readonly reach?: Reach } {
  if (runs[0]?.identical === undefined) return {};
  const of = (key: keyof Reach) => mean(runs.map((own) => own[key]!));
  return { reach: { missedKeys: of("missedKeys"), ownSkips: of("ownSkips"), identical: of("identical") } };
}

/** Ratios of skipped queries and evicted keys in each layer, where there were any; mean over seeds. */
export type PerLayer = Partial<Pick<TaskResult, "skipRatioPerLayer" | "dropRatioPerLayer">>;

function perLayerOf(runs: readonly PerLayer[]): PerLayer {
  const meanOf = (key: keyof PerLayer) => {
    const all = runs.flatMap((run) => run[key] === undefined ? [] : [run[key]]);
    return all[0]?.map((_, layer) => meanOrNull(all.map((own) => own[layer]!)));
  };
  const skipRatioPerLayer = meanOf("skipRatioPerLayer"), dropRatioPerLayer = meanOf("dropRatioPerLayer");
  return { ...(skipRatioPerLayer && { skipRatioPerLayer }), ...(dropRatioPerLayer && { dropRatioPerLayer }) };
}

export interface MethodRun
  extends PerLayer, Partial<Reach>, Pick<TaskResult, "achievedRatio" | "kvAchievedRatio" | keyof Spent> {
  readonly retained: Retained;
  readonly losses: readonly number[];
  readonly metrics: { readonly [name: string]: readonly number[] };
}

/** Means over the runs of a method, or of the full model. @param units Losses of each run. */
export function measureRuns(runs: readonly MethodRun[], units: number) {
  const losses = new Float64Array(units), metrics: { [name: string]: Float64Array } = {};
  for (const own of runs) {
    own.losses.forEach((loss, i) => losses[i]! += loss / runs.length);
    for (const [name, values] of Object.entries(own.metrics)) {
      const sums = metrics[name] ??= new Float64Array(units);
      values.forEach((value, i) => sums[i]! += value / runs.length);
    }
  }
  return {
    ...{ losses, metrics },
    ratio: meanOrNull(runs.map(({ achievedRatio }) => achievedRatio)),
    kvRatio: meanOrNull(runs.map(({ kvAchievedRatio }) => kvAchievedRatio)),
    retained: mapBudgets((budget) => mean(runs.map((own) => own.retained[budget]))),
    spent: {
      timeMs: mean(runs.map(({ timeMs }) => timeMs)),
      kvBytesHeld: mean(runs.map(({ kvBytesHeld }) => kvBytesHeld)),
      kvBytesAllocated: mean(runs.map(({ kvBytesAllocated }) => kvBytesAllocated)),
    },
    perLayer: perLayerOf(runs),
    ...reachOfRuns(runs),
  };
}

/** Finds where the control of a method stands; -1 = it has none, is it itself, or one of the two missed the ratio. */
export function controlsOf(all: readonly Measured[]): (control: Control, i: number) => number {
  const keyOf = (options: ResolvedOptions | undefined) => options && seedlessKey(options);
  const keys = all.map(({ options, missed }) => missed ? undefined : keyOf(options));
  return (control, i) => {
    const key = keys[i] && keyOf(controlFor(control, all[i]!.options!));
    return keys.findIndex((other, j) => other !== undefined && other === key && j !== i);
  };
}

/** Gives the place of a control of the method at a place, or -1. */
export type ControlOf = ReturnType<typeof controlsOf>;

/** A method as it is evaluated: against the protected random baseline where that ran, else against plain random. */
export function contend(
  { name, asked, options, missed, matched }: Measured,
  i: number,
  controlOf: ControlOf,
): Contender {
  const control = (["random-protected", "random"] as const).map((own) => controlOf(own, i))
    .find((place) => place >= 0) ?? -1;
  const mayOppose = !(missed || options === undefined || isBaseline(options) || nonCausal(options));
  const budget = matched?.budget ?? (options && ownBudget(options));
  return {
    ...{ name, control, mayOppose, missed },
    ...(asked !== undefined && { asked }),
    ...(budget !== undefined && { budget }),
    ...(options !== undefined && !filtersQueries(options) && { evicts: true }),
  };
}

/** A task's metrics as series: the headline, and its others that every unit has. */
export function listSeries(
  all: readonly Measured[],
  { name: task, headline, loss, metrics }: Task,
  lengths: readonly number[],
): ComparedSeries[] {
  const cut = (pick: (own: Measured) => Float64Array) => all.map((own) => splitChunks(pick(own), lengths));
  const known = metrics.filter(({ name }) => all.slice(1).every((own) => own.metrics[name] !== undefined));
  const atNoDistance = ({ better }: Metric) =>
    new Float64Array(all[0]!.losses.length).fill(better === "higher" ? 1 : 0);
  const spent = { retained: all.map((own) => own.retained), reach: all.map((own) => own.reach) };
  const blockSize = blockOf({ loss });
  return [
    {
      ...{ task, blockSize, ...spent, values: cut(({ losses }) => valuesOfUnits(headline, losses)) },
      metric: metricOfUnits(headline),
    },
    ...known.map((metric): ComparedSeries => ({
      ...{ task, metric, blockSize, ...spent, ...(metric.isDistance && { isDistance: true }) },
      values: cut((own) => own.metrics[metric.name] ?? atNoDistance(metric)),
    })),
  ];
}

/** Losses of all chunks, apart again. @param losses [units] f64. @returns One f64 array [length] for each length. */
export function splitChunks(losses: Float64Array, lengths: readonly number[]): Float64Array[] {
  let end = 0;
  return lengths.map((length) => losses.subarray(end, end += length));
}
