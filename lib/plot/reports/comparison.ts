/** The report of a comparison: its figures and its table on one page. */
import { formatMetric, lossUnit, readMetric } from "../../eval/metrics.ts";
import { labelOf } from "../../eval/task.ts";
import { findTask } from "../../eval/tasks/mod.ts";
import { BUDGET_NAMES, BUDGETS, showShare } from "../../sweep/budgets.ts";
import type { Comparison } from "../../sweep/comparison.ts";
import type { Environment } from "../../sweep/trial.ts";
import { collectComparison, formatInterval, formatPercent, plotComparison } from "../plots/comparison.ts";
import { escapeHtml } from "../figure/draw.ts";
import type { Figure } from "../figure/figure.ts";
import { renderFacts, renderPage, renderTable, type ReportOptions, runFacts } from "../figure/page.ts";
import { MISSED_NOTE } from "../figure/trial_label.ts";
import { formatCsv, formatShort } from "./csv.ts";
import { comparedRatio, describeComparison } from "./verdict.ts";
import { collectMethodBudgets, plotMethodBudgets } from "../plots/method_budgets.ts";
import { collectMethodMatrix, pairShares, plotMethodMatrix } from "../plots/method_matrix.ts";
import { describeOpposed, tabulateResults } from "./results.ts";
import type { TrialTable } from "./trial_table.ts";

/** The figures of a comparison's report, in order. */
export function plotComparisons(comparison: Comparison): Figure[] {
  const { results = [] } = comparison;
  const measured = [...Map.groupBy(results, ({ task, metric }) => `${task} ${metric}`).values()].map((
    [row],
  ) => row!);
  return [
    ...pairShares(comparison).map((asked) => plotMethodMatrix(collectMethodMatrix(comparison, asked))),
    ...measured.map(({ task, metric }) => plotMethodBudgets(collectMethodBudgets(comparison, task, metric))),
    ...(["dense", "random", "random-protected"] as const).map((base) =>
      plotComparison(collectComparison(comparison, base))
    ),
  ];
}

const SHOWN_BUDGETS = BUDGET_NAMES.filter((name) => name !== "queries");

/** What a row says beside its intervals. */
const VERDICTS = ["control", "rival"] as const;

/** Lays a comparison out: one row a method. Shared by the terminal and the report. */
export function tabulateComparison(
  { methods, results = [], environment }:
    & Pick<Comparison, "methods">
    & Partial<Pick<Comparison, "results">>
    & {
      readonly environment: Pick<Environment, "task">;
    },
): TrialTable {
  const task = findTask(environment.task), { headline } = task;
  const hasKeys = methods.some(({ kvAchievedRatio }) => typeof kvAchievedRatio === "number");
  const rows = methods.map((method) => [
    `${method.name}${method.looksAhead ? " ^" : ""}${method.seeds > 1 ? ` (${method.seeds} seeds)` : ""}`,
    `${method.achievedRatio === null ? "-" : method.achievedRatio.toFixed(3)}${method.missed ? " !" : ""}`,
    ...(hasKeys ? [method.kvAchievedRatio?.toFixed(3) ?? "-"] : []),
    // A comparison of an older version has no shares.
    ...SHOWN_BUDGETS.map((name) => showShare(method.shares?.[name])),
    method.loss.toFixed(4),
    formatMetric(headline, readMetric(method, headline.name)),
    method.toDense === null ? "-" : formatInterval(method.toDense, 4),
    ...[method.toRandom, method.toProtected ?? null].map((interval) =>
      interval === null ? "-" : formatInterval(interval, 4)
    ),
    method.closed === null ? "-" : formatPercent(method.closed),
    ...VERDICTS.map((opponent) => {
      // Of this task's headline; a comparison of an older version has none.
      const row = results.find((row) =>
        row.method === method.name && row.task === task.name && row.metric === headline.name
      );
      return row === undefined ? "-" : describeOpposed(row, opponent);
    }),
    method.labels ?? "-",
  ]);
  return {
    columns: [
      "method",
      "Q skipped",
      ...(hasKeys ? ["KV dropped"] : []),
      ...SHOWN_BUDGETS.map((name) => BUDGETS[name].label),
      "loss",
      headline.label,
      "to dense",
      "to random",
      "to protected",
      "gap closed",
      ...VERDICTS.map((opponent) => `vs ${opponent}`),
      "labels",
    ],
    hints: [
      "^ = looks ahead: an upper bound",
      "achieved share of queries (attention computations) skipped, after warm-up, over all layers",
      ...(hasKeys ? ["achieved share of judged keys and values dropped, likewise"] : []),
      ...SHOWN_BUDGETS.map((name) => `${BUDGETS[name].title}, against dense`),
      `mean loss, ${lossUnit(task)}`,
      headline.formula,
      "loss above the dense model's, with its interval",
      "loss above that of random with the same options, with its interval",
      "loss above that of random-protected with the same options, with its interval",
      "share of the way from random to oracle with the same options, with its interval",
      "whether it is told apart from its fair control (else random), at 5%, adjusted for the whole table",
      "the same against the best other on-line method at the same share",
      "calibration text, whether queries decide, where it is defined, whether weights were trained for it",
    ],
    rows,
    left: [true],
  };
}

/**
 * Renders a comparison as a self-contained page: differences to the dense model and to chance, and the table.
 *
 * @returns HTML that loads nothing from anywhere.
 */
export function renderComparisonReport(comparison: Comparison, { plotly, nav }: ReportOptions): string {
  const { environment, intervals, methods } = comparison;
  const { model, text } = environment;
  const chunks = environment.textTokens / environment.context;
  const [first, ...rest] = describeComparison(comparison);
  return renderPage({
    title: `Methods compared: ${model} on ${text}`,
    intro: `<p class="verdict">${escapeHtml(first!)}</p><p>${escapeHtml(rest.join(" "))}</p>
<p class="muted">What methods cost on the same tokens: those that skip queries at the same share, and those that drop keys and values alone.</p>${
      renderFacts([
        ["text", `${text}, ${environment.textTokens} tokens in ${chunks} of ${environment.context}`],
        ["asked share of queries", String(comparedRatio(methods))],
        [
          "intervals",
          `${
            100 * intervals.confidence
          }%, ${intervals.resamples} resamples of moving blocks of ${intervals.blockSize} ${
            findTask(environment.task).loss.of
          }s`,
        ],
        ["protocol", labelOf(findTask(environment.task), environment.context)],
        ...runFacts(environment),
      ])
    }`,
    nav,
    sections: [
      ...plotComparisons(comparison),
      `<h2>All methods</h2>
<p class="muted">^ looks ahead: an upper bound. ${MISSED_NOTE}. A column's head sorts by it and says what it holds when pointed at.</p>
${renderTable(tabulateComparison(comparison))}`,
      ...(comparison.results === undefined ? [] : [
        `<h2>All results</h2>
<p class="muted">p values adjusted over the whole table.</p>
${renderTable(tabulateResults(comparison))}`,
      ]),
      `<details><summary>Environment and options</summary>
<p class="muted">${escapeHtml(environment.protocol)}</p>
<pre>${
        escapeHtml(
          JSON.stringify(
            { environment, methods: methods.map(({ name, options }) => ({ name, options })) },
            null,
            2,
          ),
        )
      }</pre>
</details>`,
    ],
    plotly,
    downloads: [
      { name: "compare.csv", text: formatCsv(methods) },
      { name: "compare.json", text: formatShort(comparison) },
    ],
  });
}
