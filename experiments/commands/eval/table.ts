/** The table of an evaluation of items. */
import {
  findMetric,
  formatChange,
  formatMean,
  formatSpread,
  type ItemBudget,
  type ItemMean,
  type ItemResult,
  type Metric,
} from "../../../lib/eval/mod.ts";
import { BUDGETS, type Retained, retainedOf, showFraction } from "../../../lib/sweep/mod.ts";
import type { PlainTable } from "../cli/output/table.ts";

/** A column: its head, its explanation, and its cell. */
interface Column {
  readonly name: string;
  readonly hint: string;
  readonly left?: true;
  /** Whether an evaluation of the full model has it too. */
  readonly always?: true;
  readonly cell: (row: ItemResult, metric: Metric, budget: Budget | undefined) => string;
}

/** The part of a task that a method filtered: of items, or of a text. */
export type Budget = Partial<ItemBudget> & { readonly retained?: Retained };

const spent = ({ usage, retained }: Budget) => usage === undefined ? retained : retainedOf(usage);

/** If more than this fraction of the answers equals the full model's, they are weak evidence about a method. */
const MOSTLY = 0.5;

/** Warnings about tasks that a method hardly changed, one line each. */
export function warnOfIdentical(budgets: { readonly [task: string]: Budget }): string[] {
  return Object.entries(budgets).flatMap(([task, { items = 0, identical = 0 }]) =>
    identical > MOSTLY * items
      ? [
        `${task}: the filter changed ${
          items - identical
        } of ${items} items, the others are the full model's.`,
      ]
      : []
  );
}

const mean = (metric: Metric, own: ItemMean | undefined) => own === undefined ? "-" : formatMean(metric, own);
const share = (value: number | null | undefined) => value == null ? "-" : `${(100 * value).toFixed(1)}%`;

const COLUMNS: readonly Column[] = [
  { name: "task", hint: "task", left: true, always: true, cell: ({ task }) => task },
  { name: "metric", hint: "see --help all", left: true, always: true, cell: (_, { label }) => label },
  {
    name: "items",
    hint: "items scored, or tokens of a text",
    always: true,
    cell: ({ items }) => String(items),
  },
  {
    name: "dense",
    hint: "full model ± standard error",
    always: true,
    cell: ({ dense }, metric) => mean(metric, dense),
  },
  {
    name: "filtered",
    hint: "the method ± standard error",
    cell: ({ filtered }, metric) => mean(metric, filtered),
  },
  {
    name: "change",
    hint: "filtered minus full model, with its 95% interval over items; percentages in points",
    cell: ({ difference, dense }, metric) => {
      const { estimate, low, high } = difference!;
      const [change, from, to] = [estimate, low, high].map((value) =>
        formatChange(metric, value, dense.mean)
      );
      return `${change} [${from}, ${to}]`;
    },
  },
  {
    name: "p",
    hint: "p value adjusted for all rows (McNemar's mid-p, of ppl from resamples; Benjamini-Hochberg)",
    cell: ({ difference }) => difference!.adjustedPValue.toPrecision(2),
  },
  { name: "verdict", hint: "at 5%", left: true, cell: ({ difference }) => difference!.verdict },
  {
    name: "detectable",
    hint: "smallest true change that 80% of such experiments find",
    cell: ({ difference: { smallestDetectable } = {} as never, dense }, metric) =>
      smallestDetectable == null ? "-" : formatSpread(metric, smallestDetectable, dense.mean),
  },
  {
    name: "identical",
    hint: "fraction of items with the full model's log-likelihoods: the filter did not change them",
    cell: (_row, _metric, budget) => share(budget?.items && budget.identical! / budget.items),
  },
  ...(["pairs", "cache"] as const).map((name): Column => ({
    name: BUDGETS[name].label,
    hint: `${BUDGETS[name].title}, of these items, in % of the full model's`,
    cell: (_row, _metric, budget) => showFraction(budget && spent(budget)?.[name]),
  })),
  {
    name: "missed keys",
    hint: "fraction of an item's scored positions that did not see a filtered key, mean over items",
    cell: (_row, _metric, budget) => share(budget?.meanReach?.missedKeys),
  },
  {
    name: "own",
    hint:
      "fraction of the scored positions' own attentions that were filtered, over all layers, mean over items",
    cell: (_row, _metric, budget) => share(budget?.meanReach?.ownSkips),
  },
  {
    name: "skipped",
    hint: "pruning ratio: attention computations skipped after the warm-up, over all layers",
    cell: (_row, _metric, budget) => share(budget?.achievedRatio),
  },
  {
    name: "evicted",
    hint: "compression ratio: keys and values evicted, of those decided, over all layers",
    cell: (_row, _metric, budget) => share(budget?.kvAchievedRatio),
  },
];

/** Columns that are left out in a narrow terminal, the first one first. */
export const SPARE_COLUMNS = [
  "detectable",
  "p",
  "evicted",
  "own",
  "skipped",
  "items",
  "missed keys",
  "pairs",
];

export const EVAL_COLUMNS = COLUMNS.map(({ name }) => name);

/** A row per metric of a task. */
export function tabulateEval(
  results: readonly ItemResult[],
  budgets: { readonly [task: string]: Budget },
): PlainTable {
  const isDense = results.every(({ filtered }) => filtered === undefined);
  const columns = COLUMNS.filter(({ always }) => always || !isDense);
  return {
    columns: columns.map(({ name }) => name),
    hints: columns.map(({ hint }) => hint),
    left: columns.map(({ left }) => left === true),
    rows: results.map((row) => {
      const metric = findMetric(row.task, row.metric);
      return columns.map(({ cell }) => cell(row, metric, budgets[row.task]));
    }),
  };
}
