/** The table of a comparison's results: a metric of a method, and whether it differs significantly from its opponents. */
import { formatChange, formatMean, formatSpread } from "../../eval/metrics.ts";
import { findMetric } from "../../eval/tasks/mod.ts";
import { type BudgetName, BUDGETS, showFraction } from "../../sweep/budgets.ts";
import type { Comparison } from "../../sweep/compare/comparison.ts";
import type { ComparedResult, Opponent, Unequal } from "../../sweep/compare/verdicts.ts";
import { type TableColumn, tabulate, type TextTable } from "../figure/page.ts";

/** The verdict against an opponent, with the name of the best other, and with a budget that is unequal. */
export function describeOpposed({ against }: Pick<ComparedResult, "against">, opponent: Opponent): string {
  const own = against[opponent];
  if (own === undefined) return "-";
  const join = own.verdict === "no significant difference" ? "from" : "than";
  const said = opponent === "bestOther" ? `${own.verdict} ${join} ${own.name}` : own.verdict;
  return own.unequal === undefined ? said : `${said} (unequal: ${describeUnequal(own.unequal)})`;
}

/** `KV cache +4 points`. */
export function describeUnequal({ budget, more }: Unequal): string {
  const points = 100 * more, digits = Math.abs(points) < 9.5 ? 1 : 0;
  return `${BUDGETS[budget].label} ${more < 0 ? "-" : "+"}${Math.abs(points).toFixed(digits)} points`;
}

/** Opponents as columns name them. */
export const OPPONENT_NAMES: { readonly [opponent in Opponent]: string } = {
  dense: "dense",
  random: "baseline",
  bestOther: "best other",
};

/** Names of the random baselines that results are against, without what they are baselines of: `random-protected`. */
export function baselinesOf(results: readonly Pick<ComparedResult, "against">[]): string {
  const names = results.flatMap(({ against: { random } }) => random?.name?.split(" ")[0] ?? []);
  return [...new Set(names)].join(", ");
}

const HINTS: { readonly [opponent in Opponent]: string } = {
  dense: "against the full model, at 5%, adjusted for the whole table (Benjamini-Hochberg)",
  random: "against its random baseline, which has the same options: ",
  bestOther:
    "against the best other online method at the same ratio, by this metric, of an equal budget where there is one; " +
    "unequal: it spends more or less by over a point",
};

/** The full model's mean on the row's units. */
const denseMean = ({ mean, against: { dense } }: ComparedResult) => mean - (dense?.estimate ?? 0);

const budgetColumn = (name: BudgetName): TableColumn<ComparedResult> => [
  BUDGETS[name].label,
  `${BUDGETS[name].title}, on these items or tokens, in % of the full model's`,
  ({ retained }) => showFraction(retained?.[name]),
];
const verdictColumn = (opponent: Opponent): TableColumn<ComparedResult> => [
  `vs ${OPPONENT_NAMES[opponent]}`,
  HINTS[opponent],
  (row) => describeOpposed(row, opponent),
  true,
];

/** Columns for the effects of a filter on items, for results that have some. */
const OF_ITEMS = ["identical", "missed keys", "own"];

const COLUMNS: readonly TableColumn<ComparedResult>[] = [
  ["method", "with the requested ratio, where there are several", ({ method }) => method, true],
  ["task", "task", ({ task }) => task, true],
  ["metric", "its metric", ({ task, metric }) => findMetric(task, metric).label, true],
  [
    "value",
    "± standard error, over items or blocks of tokens",
    (row) => formatMean(findMetric(row.task, row.metric), row),
  ],
  [
    "identical",
    "fraction of items with the full model's log-likelihoods: the filter changed none of these",
    ({ reach }) => showFraction(reach?.identical),
  ],
  ...(["pairs", "cache"] as const).map(budgetColumn),
  ...(["random", "bestOther"] as const).map(verdictColumn),
  [
    "change",
    "filtered minus full model, with its 95% interval; percentages in points",
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
    "smallest true change from the full model that 80% of such experiments find",
    (row) =>
      row.against.dense?.smallestDetectable == null ? "-" : formatSpread(
        findMetric(row.task, row.metric),
        row.against.dense.smallestDetectable,
        denseMean(row),
      ),
  ],
  [
    "missed keys",
    "fraction of an item's scored positions that did not attend to a filtered key, mean over items",
    ({ reach }) => showFraction(reach?.missedKeys),
  ],
  [
    "own",
    "fraction of the scored positions' own attention computations that were skipped, over all layers, mean over items",
    ({ reach }) => showFraction(reach?.ownSkips),
  ],
  ["units", "items or tokens", ({ units }) => String(units)],
  ...(["projectionFlops", "parameters"] as const).map(budgetColumn),
];

export const RESULT_COLUMNS: readonly string[] = COLUMNS.map(([name]) => name);

/** Lays the results out, task by task, metric by metric, in the order of the methods. */
export function tabulateResults({ results = [] }: Pick<Comparison, "results">): TextTable {
  const hasItems = results.some(({ reach }) => reach !== undefined);
  const named = COLUMNS.map((
    [name, hint, ...more],
  ): TableColumn<ComparedResult> => [
    name,
    hint === HINTS.random ? `${hint}${baselinesOf(results) || "none ran"}` : hint,
    ...more,
  ]);
  return tabulate(results, named.filter(([name]) => hasItems || !OF_ITEMS.includes(name)));
}
