/** The table of a comparison's results: a metric of a method, and whether it is told apart from its opponents. */
import { formatChange, formatMean, formatSpread } from "../../eval/metrics.ts";
import { findMetric } from "../../eval/tasks/mod.ts";
import { type BudgetName, BUDGETS, showShare } from "../../sweep/budgets.ts";
import type { Comparison } from "../../sweep/compare/comparison.ts";
import type { ComparedResult, Opponent, Unequal } from "../../sweep/compare/judgement.ts";
import { type TableColumn, tabulate, type TextTable } from "../figure/page.ts";

/** What is said against an opponent; a rival is named, and so is a budget of which the method spends more or less. */
export function describeOpposed({ against }: Pick<ComparedResult, "against">, opponent: Opponent): string {
  const own = against[opponent];
  if (own === undefined) return "-";
  const join = own.verdict === "not told apart" ? "from" : "than";
  const said = opponent === "rival" ? `${own.verdict} ${join} ${own.name}` : own.verdict;
  return own.unequal === undefined ? said : `${said} (unequal: ${describeUnequal(own.unequal)})`;
}

/** `KV held +4 points`. */
export function describeUnequal({ budget, more }: Unequal): string {
  const points = 100 * more, digits = Math.abs(points) < 9.5 ? 1 : 0;
  return `${BUDGETS[budget].label} ${more < 0 ? "-" : "+"}${Math.abs(points).toFixed(digits)} points`;
}

const HINTS: { readonly [opponent in Opponent]: string } = {
  dense: "against the model without a filter, at 5%, adjusted for the whole table (Benjamini-Hochberg)",
  control:
    "against its random baseline, which has the same options: random-protected where it ran, else random",
  rival:
    "against the best other on-line method at the same share, by this metric, of an equal budget where there is one; " +
    "unequal: it spends more or less by over a point",
};

/** The dense model's mean on the row's units. */
const denseMean = ({ mean, against: { dense } }: ComparedResult) => mean - (dense?.estimate ?? 0);

const budgetColumn = (name: BudgetName): TableColumn<ComparedResult> => [
  BUDGETS[name].label,
  `${BUDGETS[name].title}, on these items or tokens, against dense`,
  ({ shares }) => showShare(shares?.[name]),
];
const verdictColumn = (opponent: Opponent): TableColumn<ComparedResult> => [
  `vs ${opponent}`,
  HINTS[opponent],
  (row) => describeOpposed(row, opponent),
  true,
];

/** What a filter did to items: of results that have some. */
const OF_ITEMS = ["as dense", "missed keys", "own"];

const COLUMNS: readonly TableColumn<ComparedResult>[] = [
  ["method", "a share behind it: what was asked for", ({ method }) => method, true],
  ["task", "task", ({ task }) => task, true],
  ["metric", "its metric", ({ task, metric }) => findMetric(task, metric).label, true],
  [
    "value",
    "± standard error, over items or blocks of tokens",
    (row) => formatMean(findMetric(row.task, row.metric), row),
  ],
  [
    "as dense",
    "share of items with the dense model's log-likelihoods: the filter changed none of these",
    ({ reach }) => showShare(reach?.identical),
  ],
  ...(["pairs", "rows"] as const).map(budgetColumn),
  ...(["control", "rival"] as const).map(verdictColumn),
  [
    "to dense",
    "change from dense, of shares in points, with its 95% interval",
    (row) => {
      const { task, metric, against: { dense } } = row;
      if (dense === undefined) return "-";
      const change = (value: number) => formatChange(findMetric(task, metric), value, denseMean(row));
      return `${change(dense.estimate)} [${change(dense.low)}, ${change(dense.high)}]`;
    },
  ],
  verdictColumn("dense"),
  [
    "detectable",
    "smallest true change from dense that 80% of such experiments find",
    (row) =>
      row.against.dense?.smallestDetectable == null ? "-" : formatSpread(
        findMetric(row.task, row.metric),
        row.against.dense.smallestDetectable,
        denseMean(row),
      ),
  ],
  [
    "missed keys",
    "share of an item's scored positions that did not see a filtered key, mean over items",
    ({ reach }) => showShare(reach?.missedKeys),
  ],
  [
    "own",
    "share of the scored positions' own attentions that were filtered, over all layers, mean over items",
    ({ reach }) => showShare(reach?.ownSkips),
  ],
  ["units", "items or tokens", ({ units }) => String(units)],
  ...(["projectionFlops", "parameters"] as const).map(budgetColumn),
];

export const RESULT_COLUMNS: readonly string[] = COLUMNS.map(([name]) => name);

/** Lays the results out, task by task, metric by metric, in the order of the methods. */
export function tabulateResults({ results = [] }: Pick<Comparison, "results">): TextTable {
  const hasItems = results.some(({ reach }) => reach !== undefined);
  return tabulate(results, COLUMNS.filter(([name]) => hasItems || !OF_ITEMS.includes(name)));
}
