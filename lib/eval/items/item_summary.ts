/** Results over a task's items: metrics with standard errors, a filtered run next to the dense one, and budgets. */
import { type PairedMean, pairedMean } from "../../stats/paired.ts";
import type { FilterReach } from "../filter_reach.ts";
import type { ItemScore } from "./item_scorer.ts";
import type { ItemMetric, Likelihoods } from "./item_metrics.ts";
import { blockOf, type Metric, metricOfUnits, valuesOfUnits } from "../metrics.ts";
import type { Task } from "../task.ts";
import type { Item } from "./item.ts";
import { differenceOf, testDifferences, type TestedDifference } from "../verdict.ts";
import { addCounts, dropRatioOf, dropRatiosOf, type SkipRatios, skipRatiosOf } from "../skip_ratio.ts";
import type { SequenceUsage } from "../../model/run/usage.ts";

/** A metric of one run, and the mean over items of the values from which it is computed. */
export interface ItemMean extends PairedMean {
  readonly value: number;
}

/** One row of a table: a metric of a task. */
export interface ItemResult {
  readonly task: string;
  readonly metric: string;
  /** Items, or tokens of a text. */
  readonly items: number;
  readonly dense: ItemMean;
  readonly filtered?: ItemMean;
  /** The two on the same items. */
  readonly difference?: TestedDifference;
}

/** Means over items of the filter's effects on their scored positions. */
export interface MeanReach {
  /** Fraction of positions that missed a filtered key. */
  readonly missedKeys: number;
  /** Fraction of positions whose own attention was filtered in some layer. */
  readonly ownFiltered: number;
  /** Fraction of the positions' attentions, over all layers, that were filtered. */
  readonly ownSkips: number;
}

/** Parts of a run that were actually filtered. */
export interface ItemBudget extends Pick<SkipRatios, "achievedRatio" | "skipRatioPerLayer"> {
  /** Items that were scored, each once a run. */
  readonly items: number;
  /** Those of them that have the full model's log-likelihoods and text: the filter changed nothing that counts. */
  readonly identical: number;
  /** Counts over the scored positions of all items. */
  readonly reach: FilterReach;
  /** Fractions of an item's positions, mean over items. */
  readonly meanReach: MeanReach;
  /** Compression ratio: keys and values evicted, of those decided, over all layers; null where there is no such rule. */
  readonly kvAchievedRatio: number | null;
  /** Dropped keys and values of each layer over decided ones; undefined where there is no such rule. */
  readonly kvRatioPerLayer?: readonly (number | null)[];
  /** Work and memory, summed over requests, each counted as a whole sequence. */
  readonly usage: SequenceUsage;
}

interface ItemRuns {
  readonly task: { readonly name: string; readonly metrics: readonly ItemMetric[] };
  readonly items: readonly Pick<Item, "requests" | "gold" | "sought">[];
  readonly dense: readonly ItemScore[];
  readonly filtered?: readonly ItemScore[];
}

/** A metric of each item. @returns [items] f64. */
export function valuesOf(
  metric: ItemMetric,
  { items }: Pick<ItemRuns, "items">,
  scores: readonly ItemScore[],
): Float64Array {
  return Float64Array.from(items, (item, i) => metric.of(item, scores[i]!));
}

/** Runs of the same text: losses of its chunks. */
export interface TextRuns {
  readonly task: Pick<Task, "name" | "loss" | "headline">;
  /** The dense run's losses, chunk by chunk. */
  readonly dense: readonly Float64Array[];
  readonly filtered?: readonly Float64Array[];
}

/** The metrics of a task that both runs have, each with its values in segments, one a unit. */
function metricsOf(run: ItemRuns | TextRuns) {
  if ("items" in run) {
    return run.task.metrics.map((metric) => ({
      ...{ metric, blockSize: 1, dense: [valuesOf(metric, run, run.dense)] },
      filtered: run.filtered && [valuesOf(metric, run, run.filtered)],
    }));
  }
  const { task: { headline, loss }, dense, filtered } = run;
  const values = (all: readonly Float64Array[]) => all.map((losses) => valuesOfUnits(headline, losses));
  return [{
    ...{ metric: metricOfUnits(headline), blockSize: blockOf({ loss }) },
    ...{ dense: values(dense), filtered: filtered && values(filtered) },
  }];
}

/**
 * A metric of a run, with its standard error over blocks of units.
 *
 * @param values The metric of each unit, one f64 array [units] for each segment.
 */
export function meanOf(
  { fromMean = (mean) => mean }: Pick<Metric, "fromMean">,
  values: readonly Float64Array[],
  blockSize: number,
): ItemMean {
  const { mean, standardError } = pairedMean(values, blockSize);
  return { value: fromMean(mean), mean, standardError };
}

/**
 * Rows of the table of several tasks, one per metric, p values adjusted over all of them.
 *
 * @throws {RangeError} If a task has no items.
 */
export function tabulateItems(runs: readonly (ItemRuns | TextRuns)[]): ItemResult[] {
  const rows = runs.flatMap((run) =>
    metricsOf(run).map(({ metric, blockSize, dense, filtered }) => ({
      row: {
        ...{ task: run.task.name, metric: metric.name },
        items: dense.reduce((sum, { length }) => sum + length, 0),
        dense: meanOf(metric, dense, blockSize),
        ...(filtered && { filtered: meanOf(metric, filtered, blockSize) }),
      },
      difference: filtered && differenceOf(metric, dense, filtered, { blockSize }),
    }))
  );
  const judged = testDifferences(rows.map(({ difference }) => difference));
  return rows.map(({ row }, i): ItemResult =>
    judged[i] === undefined ? row : { ...row, difference: judged[i] }
  );
}

/** Log-likelihoods that are no further apart, relatively, differ by rounding. */
const ROUNDING = 1e-5;

/** Whether an item was answered as by the full model: the same log-likelihoods up to rounding, and the same tokens. */
export function isIdentical(
  own: Pick<Likelihoods, "logLikelihoods" | "generatedIds">,
  dense: Pick<Likelihoods, "logLikelihoods" | "generatedIds">,
): boolean {
  return own.logLikelihoods.length === dense.logLikelihoods.length &&
    own.logLikelihoods.every((sum, i) => {
      const other = dense.logLikelihoods[i]!;
      return Math.abs(sum - other) <= ROUNDING * Math.max(1, Math.abs(other));
    }) &&
    String(own.generatedIds) === String(dense.generatedIds);
}

/**
 * The parts of a run that were actually filtered, over its items.
 *
 * @param scores Scores of one run, or of several runs one after the other.
 * @param dense The full model's scores, one per item.
 * @throws {RangeError} If there are no scores.
 */
export function budgetOf(
  scores: readonly ItemScore[],
  numLayers: number,
  dense: readonly ItemScore[],
): ItemBudget {
  const { achievedRatio, skipRatioPerLayer } = skipRatiosOf(addCounts(scores.map(({ skips }) => skips)));
  const judged = scores.map(({ drops }) => drops).filter((drops) => drops !== undefined);
  const drops = judged.length === 0 ? undefined : addCounts(judged);
  const mean = (share: (reach: FilterReach) => number) =>
    scores.reduce((sum, { reach }) => sum + share(reach), 0) / scores.length;
  return {
    items: scores.length,
    identical: scores.filter((own, i) => isIdentical(own, dense[i % dense.length]!)).length,
    reach: addCounts(scores.map(({ reach }) => reach)),
    meanReach: {
      missedKeys: mean(({ missedKeys, positions }) => missedKeys / positions),
      ownFiltered: mean(({ ownFiltered, positions }) => ownFiltered / positions),
      ownSkips: mean(({ ownSkips, positions }) => ownSkips / (numLayers * positions)),
    },
    achievedRatio,
    skipRatioPerLayer,
    kvAchievedRatio: drops === undefined ? null : dropRatioOf(drops),
    ...(drops && { kvRatioPerLayer: dropRatiosOf(drops) }),
    usage: addCounts(scores.map(({ usage }) => usage)),
  };
}

/** Whether a filter reached no scored position at all: its results are then those of the full model. */
export function reachesNothing({ reach }: Pick<ItemBudget, "reach">): boolean {
  return reach.missedKeys + reach.ownSkips === 0;
}
