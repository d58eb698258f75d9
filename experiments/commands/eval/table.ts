/** The table of an evaluation of items. */
import type { ItemBudget, ItemResult } from "../../../lib/eval/items/item_summary.ts";
import { formatChange, formatMean, formatSpread, type Metric } from "../../../lib/eval/metrics.ts";
import { findMetric } from "../../../lib/eval/tasks/mod.ts";
import { isOfMean, MEAN_METRIC } from "../../../lib/plot/reports/paper_table.ts";
import { type TableColumn, tabulate } from "../../../lib/plot/figure/page.ts";
import { BUDGETS, type Retained, retainedOf, showFraction } from "../../../lib/sweep/budgets.ts";
import { meanOfMeans, type PairedMean } from "../../../lib/stats/paired.ts";
import { meanOfIntervals } from "../../../lib/stats/shares.ts";
import type { PlainTable } from "../cli/output/table.ts";

/** The part of a task that a method filtered: of items, or of a text. */
export type Budget = Partial<ItemBudget> & { readonly retained?: Retained };

const spent = ({ usage, retained }: Budget) => usage === undefined ? retained : retainedOf(usage);

/** If more than this fraction of the answers equals the full model's, they are weak evidence about a method. */
const MOSTLY = 0.5;

/** Warnings about tasks that a method hardly changed, one line each. */
export function warnOfIdentical(budgets: { readonly [task: string]: Budget }): string[] {
  return Object.entries(budgets).flatMap(([task, { items = 0, identical = 0 }]) => {
    const changed = items - identical;
    if (!(identical > MOSTLY * items)) return [];
    return [`${task}: the filter changed ${changed} of ${items} items, the others are the full model's.`];
  });
}

const share = (value: number | null | undefined) => value == null ? "-" : `${(100 * value).toFixed(1)}%`;

/** A row of results, with its metric and the savings of the method on its task. */
interface Row extends ItemResult {
  readonly of: Metric;
  readonly budget: Budget | undefined;
}

const DENSE_COLUMNS: readonly TableColumn<Row>[] = [
  ["task", "task", ({ task }) => task, true],
  ["metric", "see --help all", ({ of }) => of.label, true],
  ["items", "items scored, or tokens of a text", ({ items }) => String(items)],
  ["dense", "full model ± standard error", ({ of, dense }) => formatMean(of, dense)],
];

/** A column with a percentage from the budget of a task. */
const filtered = (name: string, hint: string, of: (budget: Budget) => number | null | undefined) =>
  [name, hint, ({ budget }: Row) => share(budget && of(budget))] as const;

const COLUMNS: readonly TableColumn<Row>[] = [
  ...DENSE_COLUMNS,
  [
    "filtered",
    "the method ± standard error",
    ({ of, filtered }) => filtered === undefined ? "-" : formatMean(of, filtered),
  ],
  [
    "change",
    "filtered minus full model, with its 95% interval over items; percentages in points",
    ({ of, difference, dense }) => {
      const { estimate, low, high } = difference!;
      const [change, from, to] = [estimate, low, high].map((value) => formatChange(of, value, dense.mean));
      return `${change} [${from}, ${to}]`;
    },
  ],
  [
    "p",
    "p value adjusted for all rows (McNemar's mid-p, of ppl from resamples; Benjamini-Hochberg)",
    ({ difference }) => difference!.adjustedPValue.toPrecision(2),
  ],
  ["verdict", "at 5%", ({ difference }) => difference!.verdict, true],
  [
    "detectable",
    "smallest true change that 80% of such experiments find",
    ({ of, difference, dense }) => {
      const least = difference?.smallestDetectable;
      return least == null ? "-" : formatSpread(of, least, dense.mean);
    },
  ],
  filtered(
    "identical",
    "fraction of items with the full model's log-likelihoods: the filter did not change them",
    ({ items, identical }) => items && identical! / items,
  ),
  ...(["pairs", "cache"] as const).map((name): TableColumn<Row> => [
    BUDGETS[name].label,
    `${BUDGETS[name].title}, of these items, in % of the full model's`,
    ({ budget }) => showFraction(budget && spent(budget)?.[name]),
  ]),
  filtered(
    "missed keys",
    "fraction of an item's scored positions that did not see a filtered key, mean over items",
    ({ meanReach }) => meanReach?.missedKeys,
  ),
  filtered(
    "own",
    "fraction of the scored positions' own attentions that were filtered, over all layers, mean over items",
    ({ meanReach }) => meanReach?.ownSkips,
  ),
  filtered(
    "skipped",
    "pruning ratio: attention computations skipped after the warm-up, over all layers",
    ({ achievedRatio }) => achievedRatio,
  ),
  filtered(
    "evicted",
    "compression ratio: keys and values evicted, of those decided, over all layers",
    ({ kvAchievedRatio }) => kvAchievedRatio,
  ),
];

/** Columns that are left out in a narrow terminal, the first one first. */
export const SPARE_COLUMNS = "detectable, p, evicted, own, skipped, items, missed keys, pairs".split(", ");

export const EVAL_COLUMNS = COLUMNS.map(([name]) => name);

/** The mean over tasks in percent, of the full model and of the method, in words; none where there are fewer than two. */
export function describeMean(results: readonly ItemResult[]): string[] {
  const own = results.filter(isOfMean), filtered = own.flatMap(({ filtered }) => filtered ?? []);
  if (own.length < 2) return [];
  const show = (all: readonly PairedMean[]) => {
    const { mean, standardError } = meanOfMeans(all);
    return formatMean(MEAN_METRIC, { value: mean, mean, standardError });
  };
  const dense = `Mean of ${own.length} tasks: dense ${show(own.map(({ dense }) => dense))}`;
  if (filtered.length < own.length) return [`${dense}.`];
  const { estimate, low, high } = meanOfIntervals(own.map(({ difference }) => difference!));
  const [change, from, to] = [estimate, low, high].map((value) => formatChange(MEAN_METRIC, value, 0));
  return [`${dense}, filtered ${show(filtered)}, change ${change} [${from}, ${to}].`];
}

/** A row per metric of a task. */
export function tabulateEval(
  results: readonly ItemResult[],
  budgets: { readonly [task: string]: Budget },
): PlainTable {
  const isDense = results.every(({ filtered }) => filtered === undefined);
  const rows = results.map((result): Row => {
    const { task, metric } = result;
    return { ...result, of: findMetric(task, metric), budget: budgets[task] };
  });
  return tabulate(rows, isDense ? DENSE_COLUMNS : COLUMNS);
}
