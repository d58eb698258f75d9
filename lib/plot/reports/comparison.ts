/** The report of a comparison: its figures and its table on one page. */
import { formatMetric, lossUnit, readMetric } from "../../eval/metrics.ts";
import { labelOf } from "../../eval/task.ts";
import { findTask } from "../../eval/tasks/mod.ts";
import { BUDGET_NAMES, BUDGETS, showShare } from "../../sweep/budgets.ts";
import type { Interval } from "../../stats/bootstrap.ts";
import type { ComparedMethod, Comparison } from "../../sweep/compare/comparison.ts";
import type { Environment } from "../../sweep/trial.ts";
import { collectComparison, formatInterval, formatPercent, plotComparison } from "../plots/comparison.ts";
import type { Figure } from "../figure/figure.ts";
import { markup } from "../figure/html.ts";
import {
  recordSection,
  renderFacts,
  renderPage,
  renderVerdict,
  type ReportOptions,
  runFacts,
  SORT_NOTE,
  type TableColumn,
  tableSection,
  tabulate,
  type TextTable,
} from "../figure/page.ts";
import { plural } from "../../plural.ts";
import { MISSED_NOTE } from "../trials/trial_label.ts";
import { formatCsv, formatShort } from "./csv.ts";
import { describeAsked, describeComparison } from "./verdict.ts";
import { collectMethodBudgets, plotMethodBudgets } from "../plots/method_budgets.ts";
import { collectMethodMatrix, pairShares, plotMethodMatrix } from "../plots/method_matrix.ts";
import { describeOpposed, tabulateResults } from "./results.ts";

export function plotComparisons(comparison: Comparison): Figure[] {
  const { results = [], methods } = comparison;
  // What verdicts call the random baseline.
  const baseline = methods.some(({ toProtected }) => toProtected !== null) ? "random-protected" : "random";
  const measured = [...Map.groupBy(results, ({ task, metric }) => `${task} ${metric}`).values()].map((
    [row],
  ) => row!);
  return [
    ...measured.map(({ task, metric }) => plotMethodBudgets(collectMethodBudgets(comparison, task, metric))),
    ...(["dense", baseline] as const).map((base) => plotComparison(collectComparison(comparison, base))),
    ...pairShares(comparison).map((asked) => plotMethodMatrix(collectMethodMatrix(comparison, asked))),
  ];
}

const SHOWN_BUDGETS = BUDGET_NAMES.filter((name) => name !== "queries");

/** What a row says beside its intervals. */
const VERDICTS = [
  [
    "control",
    "whether it is told apart from its random baseline (random-protected where it ran, else random), at 5%, adjusted for the " +
    "whole table",
  ],
  [
    "rival",
    "the same against the best other on-line method at the same share, of an equal budget where there is one; unequal: at " +
    "another budget, by over a point",
  ],
] as const;

/** Lays a comparison out: one row a method. Shared by the terminal and the report. */
export function tabulateComparison(
  { methods, results = [], environment }:
    & Pick<Comparison, "methods">
    & Partial<Pick<Comparison, "results">>
    & {
      readonly environment: Pick<Environment, "task">;
    },
): TextTable {
  const task = findTask(environment.task), { headline } = task;
  // Without methods there are the columns of all tables.
  const some = (holds: (method: ComparedMethod) => boolean) => methods.length === 0 || methods.some(holds);
  const hasKeys = some(({ kvAchievedRatio }) => typeof kvAchievedRatio === "number");
  const interval = (of: Interval | null | undefined) => of == null ? "-" : formatInterval(of, 4);
  return tabulate(methods, [
    [
      "method",
      "^ = looks ahead: an upper bound",
      ({ name, looksAhead, seeds }) =>
        `${name}${looksAhead ? " ^" : ""}${seeds > 1 ? ` (${seeds} seeds)` : ""}`,
      true,
    ],
    [
      "Q skipped",
      "achieved share of queries (attention computations) skipped, after warm-up, over all layers",
      ({ achievedRatio, missed }) => `${achievedRatio?.toFixed(3) ?? "-"}${missed ? " !" : ""}`,
    ],
    hasKeys && [
      "KV dropped",
      "achieved share of judged keys and values dropped, likewise",
      ({ kvAchievedRatio }) => kvAchievedRatio?.toFixed(3) ?? "-",
    ],
    // A comparison of an older version has no shares.
    ...SHOWN_BUDGETS.map((name): TableColumn<ComparedMethod> => [
      BUDGETS[name].label,
      `${BUDGETS[name].title}, against dense`,
      ({ shares }) => showShare(shares?.[name]),
    ]),
    some(({ matched }) => matched !== undefined) && [
      "ratio",
      "the ratio that it ran at, so that it spends what the others spend; = the one asked for; - not matched",
      ({ matched }) =>
        matched === undefined ? "-" : matched.ratio === matched.asked ? "=" : String(matched.ratio),
    ],
    ["loss", `mean loss, ${lossUnit(task)}`, ({ loss }) => loss.toFixed(4)],
    [headline.label, headline.formula, (method) => formatMetric(headline, readMetric(method, headline.name))],
    ["to dense", "loss above the dense model's, with its interval", ({ toDense }) => interval(toDense)],
    [
      "to random",
      "loss above that of random with the same options, with its interval",
      ({ toRandom }) => interval(toRandom),
    ],
    [
      "to protected",
      "loss above that of random-protected with the same options, with its interval",
      ({ toProtected }) => interval(toProtected),
    ],
    [
      "gap closed",
      "share of the way from random to oracle with the same options, with its interval",
      ({ closed }) => closed === null ? "-" : formatPercent(closed),
    ],
    ...VERDICTS.map((
      [opponent, hint],
    ): TableColumn<ComparedMethod> => [`vs ${opponent}`, hint, ({ name }) => {
      // Of this task's headline; a comparison of an older version has none.
      const row = results.find((row) =>
        row.method === name && row.task === task.name && row.metric === headline.name
      );
      return row === undefined ? "-" : describeOpposed(row, opponent);
    }]),
    [
      "labels",
      "calibration text, whether queries decide, where it is defined, whether weights were trained for it",
      ({ labels }) => labels ?? "-",
    ],
  ]);
}

/**
 * Renders a comparison as a self-contained page: differences to the dense model and to chance, and the table.
 *
 * @returns HTML that loads nothing from anywhere.
 */
export function renderComparisonReport(comparison: Comparison, { plotly, nav }: ReportOptions): string {
  const { environment, intervals, methods } = comparison;
  const { model, text } = environment, task = findTask(environment.task), isText = task.items === undefined;
  const chunks = environment.textTokens / environment.context;
  const { confidence, resamples, blockSize } = intervals;
  const tasks = [...isText ? [] : [task.name], ...comparison.items?.tasks.map((own) => own.task) ?? []];
  const options = methods.map(({ name, options }) => ({ name, options }));
  return renderPage({
    title: `Methods compared: ${model} on ${[...isText ? [text] : [], ...tasks].join(", ")}`,
    intro: markup`${
      renderVerdict(describeComparison(comparison))
    }<p class="muted">What methods cost on the same tokens and items: those \
that skip queries at equal pairs, and those that drop keys and values at equal rows, where they were matched.</p>${
      renderFacts([
        isText
          ? ["text", `${text}, ${environment.textTokens} tokens in ${chunks} of ${environment.context}`]
          : ["data", text],
        ["asked share", describeAsked(comparison)],
        [
          "intervals",
          `${100 * confidence}%, ${resamples} resamples of blocks of ${plural(blockSize, task.loss.of)}${
            tasks.length > 0 ? "; of shares of items Tango's score" : ""
          }`,
        ],
        ["protocol", labelOf(task, environment.context)],
        ...runFacts(environment),
      ])
    }`,
    nav,
    sections: [
      comparison.results !== undefined &&
      tableSection("All results", "p values adjusted over the whole table.", tabulateResults(comparison)),
      tableSection(
        "All methods",
        `^ looks ahead: an upper bound. ${MISSED_NOTE}. ${SORT_NOTE}`,
        tabulateComparison(comparison),
      ),
      ...plotComparisons(comparison),
      recordSection(
        "Environment and options",
        environment.protocol,
        JSON.stringify({ environment, methods: options }, null, 2),
      ),
    ],
    plotly,
    downloads: [
      { name: "compare.csv", text: formatCsv(methods) },
      { name: "compare.json", text: formatShort(comparison) },
    ],
  });
}
