/** The table of a comparison's results: a metric of a method, and whether it is told apart from its opponents. */
import { formatChange, formatMean, formatSpread } from "../../eval/metrics.ts";
import { findMetric } from "../../eval/tasks/mod.ts";
import { BUDGETS, showShare } from "../../sweep/budgets.ts";
import type { ComparedMethod, Comparison } from "../../sweep/compare/comparison.ts";
import { type ComparedResult, type Opponent, OPPONENTS } from "../../sweep/compare/judgement.ts";
import { type TableColumn, tabulate, type TextTable } from "../figure/page.ts";

/** A result, the method that it is of, and what that really filtered of a task of items. */
interface ResultRow extends ComparedResult {
  readonly known: ComparedMethod | undefined;
  readonly budget: NonNullable<Comparison["items"]>["budgets"][number] | undefined;
}

/** What is said against an opponent; a rival is named. */
export function describeOpposed({ against }: Pick<ComparedResult, "against">, opponent: Opponent): string {
  const own = against[opponent];
  if (own === undefined) return "-";
  if (opponent !== "rival") return own.verdict;
  return own.verdict === "not told apart"
    ? `${own.verdict} from ${own.name}`
    : `${own.verdict} than ${own.name}`;
}

const HINTS: { readonly [opponent in Opponent]: string } = {
  dense: "against the model without a filter, at 5%, adjusted for the whole table (Benjamini-Hochberg)",
  control: "against chance with the same options: random-protected where it ran, else random",
  rival: "against the best other on-line method at the same share, by this metric",
};

const COLUMNS: readonly TableColumn<ResultRow>[] = [
  ["method", "a share behind it: what was asked for", ({ method }) => method, true],
  ["task", "task", ({ task }) => task, true],
  ["metric", "its metric", ({ task, metric }) => findMetric(task, metric).label, true],
  ["units", "items or tokens", ({ units }) => String(units)],
  [
    "value",
    "± standard error (of ppl in nats), over items or blocks of tokens",
    (row) => formatMean(findMetric(row.task, row.metric), row),
  ],
  ...(["pairs", "rows", "projectionFlops", "parameters"] as const).map((name): TableColumn<ResultRow> => [
    BUDGETS[name].label,
    `${BUDGETS[name].title}, of the text, against dense`,
    ({ known }) => showShare(known?.shares[name]),
  ]),
  [
    "to dense",
    "change from dense in points (of losses in nats), with its 95% interval",
    ({ task, metric, against: { dense } }) => {
      if (dense === undefined) return "-";
      const change = (value: number) => formatChange(findMetric(task, metric), value);
      return `${change(dense.estimate)} [${change(dense.low)}, ${change(dense.high)}]`;
    },
  ],
  ...OPPONENTS.map((opponent): TableColumn<ResultRow> => [
    `vs ${opponent}`,
    HINTS[opponent],
    (row) => describeOpposed(row, opponent),
    true,
  ]),
  [
    "detectable",
    "smallest true change from dense that 80% of such experiments find",
    ({ task, metric, against: { dense } }) =>
      dense?.smallestDetectable == null
        ? "-"
        : formatSpread(findMetric(task, metric), dense.smallestDetectable),
  ],
  [
    "missed keys",
    "share of an item's scored positions that did not see a filtered key, mean over items",
    ({ budget }) => showShare(budget?.meanReach.missedKeys),
  ],
  [
    "own",
    "share of the scored positions' own attentions that were filtered, over all layers, mean over items",
    ({ budget }) => showShare(budget?.meanReach.ownSkips),
  ],
];

export const RESULT_COLUMNS: readonly string[] = COLUMNS.map(([name]) => name);

/** Lays the results out, task by task, metric by metric, in the order of the methods. */
export function tabulateResults(
  { results = [], methods, items }: Pick<Comparison, "results" | "methods" | "items">,
): TextTable {
  const known = new Map(methods.map((method) => [method.name, method]));
  const rows = results.map((row): ResultRow => ({
    ...row,
    known: known.get(row.method),
    budget: items?.budgets.find(({ method, task }) => method === row.method && task === row.task),
  }));
  return tabulate(rows, COLUMNS);
}
