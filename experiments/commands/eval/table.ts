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
import type { PlainTable } from "../cli/output/table.ts";

/** A column: its head, what is said of it, and its cell. */
interface Column {
  readonly name: string;
  readonly hint: string;
  readonly left?: true;
  /** Whether a dense evaluation has it too. */
  readonly always?: true;
  readonly cell: (row: ItemResult, metric: Metric, budget: Partial<ItemBudget> | undefined) => string;
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
    hint: "dense model ± standard error (of ppl in nats)",
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
    hint: "filtered less dense in points (of ppl in nats an item), with its 95% interval over items",
    cell: ({ difference }, metric) => {
      const { estimate, low, high } = difference!;
      const [change, from, to] = [estimate, low, high].map((value) => formatChange(metric, value));
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
    cell: ({ difference: { smallestDetectable } = {} as never }, metric) =>
      smallestDetectable == null ? "-" : formatSpread(metric, smallestDetectable),
  },
  {
    name: "missed keys",
    hint: "share of an item's scored positions that did not see a filtered key, mean over items",
    cell: (_row, _metric, budget) => share(budget?.meanReach?.missedKeys),
  },
  {
    name: "own",
    hint:
      "share of the scored positions' own attentions that were filtered, over all layers, mean over items",
    cell: (_row, _metric, budget) => share(budget?.meanReach?.ownSkips),
  },
  {
    name: "skipped",
    hint: "share of attention skipped after the warm-up, over all layers",
    cell: (_row, _metric, budget) => share(budget?.achievedRatio),
  },
  {
    name: "dropped",
    hint: "share of judged keys and values dropped, over all layers",
    cell: (_row, _metric, budget) => share(budget?.kvAchievedRatio),
  },
];

/** Columns that a narrow terminal does without, the first one first. */
export const SPARE_COLUMNS = ["detectable", "p", "dropped", "own", "skipped", "items"];

export const EVAL_COLUMNS = COLUMNS.map(({ name }) => name);

/** A row a metric of a task. */
export function tabulateEval(
  results: readonly ItemResult[],
  budgets: { readonly [task: string]: Partial<ItemBudget> },
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
