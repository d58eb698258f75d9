/** The table of a comparison's results: a metric of a method, and whether it is told apart from its opponents. */
import { formatChange, formatMean, formatSpread } from "../../eval/metrics.ts";
import { findMetric } from "../../eval/tasks/mod.ts";
import { BUDGETS, showShare } from "../../sweep/budgets.ts";
import type { ComparedMethod, Comparison } from "../../sweep/comparison.ts";
import { type ComparedResult, type Opponent, OPPONENTS } from "../../sweep/judgement.ts";
import type { TrialTable } from "./trial_table.ts";

/** A column: its head, what is said of it, and its cell. */
interface Column {
  readonly name: string;
  readonly hint: string;
  readonly left?: true;
  readonly cell: (
    row: ComparedResult,
    method: ComparedMethod | undefined,
    budget: Budget | undefined,
  ) => string;
}

/** What a method really filtered of a task of items. */
type Budget = NonNullable<Comparison["items"]>["budgets"][number];

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

const COLUMNS: readonly Column[] = [
  { name: "method", hint: "a share behind it: what was asked for", left: true, cell: ({ method }) => method },
  { name: "task", hint: "task", left: true, cell: ({ task }) => task },
  {
    name: "metric",
    hint: "its metric",
    left: true,
    cell: ({ task, metric }) => findMetric(task, metric).label,
  },
  { name: "units", hint: "items or tokens", cell: ({ units }) => String(units) },
  {
    name: "value",
    hint: "± standard error (of ppl in nats), over items or blocks of tokens",
    cell: (row) => formatMean(findMetric(row.task, row.metric), row),
  },
  ...(["pairs", "rows", "projectionFlops", "parameters"] as const).map((name): Column => ({
    name: BUDGETS[name].label,
    hint: `${BUDGETS[name].title}, of the text, against dense`,
    cell: (_, method) => showShare(method?.shares[name]),
  })),
  {
    name: "to dense",
    hint: "change from dense in points (of losses in nats), with its 95% interval",
    cell: ({ task, metric, against: { dense } }) => {
      if (dense === undefined) return "-";
      const change = (value: number) => formatChange(findMetric(task, metric), value);
      return `${change(dense.estimate)} [${change(dense.low)}, ${change(dense.high)}]`;
    },
  },
  ...OPPONENTS.map((opponent): Column => ({
    name: `vs ${opponent}`,
    hint: HINTS[opponent],
    left: true,
    cell: (row) => describeOpposed(row, opponent),
  })),
  {
    name: "detectable",
    hint: "smallest true change from dense that 80% of such experiments find",
    cell: ({ task, metric, against: { dense } }) =>
      dense?.smallestDetectable == null
        ? "-"
        : formatSpread(findMetric(task, metric), dense.smallestDetectable),
  },
  {
    name: "missed keys",
    hint: "share of an item's scored positions that did not see a filtered key, mean over items",
    cell: (_row, _method, budget) => showShare(budget?.meanReach.missedKeys),
  },
  {
    name: "own",
    hint:
      "share of the scored positions' own attentions that were filtered, over all layers, mean over items",
    cell: (_row, _method, budget) => showShare(budget?.meanReach.ownSkips),
  },
];

/** Names of all columns. */
export const RESULT_COLUMNS: readonly string[] = COLUMNS.map(({ name }) => name);

/** Lays the results out, task by task, metric by metric, in the order of the methods. */
export function tabulateResults(
  { results = [], methods, items }: Pick<Comparison, "results" | "methods" | "items">,
): TrialTable {
  const known = new Map(methods.map((method) => [method.name, method]));
  const budgetOf = ({ method, task }: ComparedResult) =>
    items?.budgets.find((own) => own.method === method && own.task === task);
  return {
    columns: [...RESULT_COLUMNS],
    hints: COLUMNS.map(({ hint }) => hint),
    left: COLUMNS.map(({ left }) => left === true),
    rows: results.map((row) => COLUMNS.map(({ cell }) => cell(row, known.get(row.method), budgetOf(row)))),
  };
}
