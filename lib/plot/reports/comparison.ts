/** The report of a comparison: its figures and its table on one page. */
import { formatMetric, lossUnit, readMetric } from "../../eval/metrics.ts";
import { labelOf } from "../../eval/task.ts";
import { findTask } from "../../eval/tasks/mod.ts";
import { BUDGET_NAMES, BUDGETS, showFraction } from "../../sweep/budgets.ts";
import type { Interval } from "../../stats/bootstrap.ts";
import type { ComparedMethod, Comparison } from "../../sweep/compare/comparison.ts";
import { EQUAL } from "../../sweep/compare/match.ts";
import type { Environment } from "../../sweep/trial.ts";
import {
  collectComparison,
  describeIntervals,
  formatInterval,
  formatPercent,
  plotComparison,
} from "../plots/methods/comparison.ts";
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
import { MISSED_NOTE } from "../trials/trial_label.ts";
import { formatCsv, formatShort } from "../csv.ts";
import { describeAsked, describeComparison } from "./verdict.ts";
import {
  collectMethodBudgets,
  type MethodBudgets,
  plotMethodBudgets,
} from "../plots/methods/method_budgets.ts";
import { collectMethodMatrix, pairRatios, plotMethodMatrix } from "../plots/methods/method_matrix.ts";
import { drawPanels, type Panel, panelsOf } from "./panels.ts";
import { baselinesOf, describeOpposed, OPPONENT_NAMES, tabulateResults } from "./results.ts";

/** Whether methods were matched, so that a plot against that budget would have all of them at one place. */
function areEqual({ methods }: Comparison, { curves }: MethodBudgets): boolean {
  const budgets = new Set(methods.flatMap(({ matched }) => matched?.budget ?? []));
  const points = curves.flatMap(({ points }) => points);
  return budgets.size > 0 && [...budgets].every((budget) => {
    const spent = points.map(({ retained }) => retained[budget]);
    return Math.max(...spent) - Math.min(...spent) <= EQUAL;
  });
}

/** The plots of a comparison: first differences, last metrics against budgets that differ. */
const PANELS: readonly Panel<Comparison>[] = [
  panelsOf(
    (comparison) =>
      (["dense", baselineOf(comparison)] as const).map((base) => collectComparison(comparison, base)),
    plotComparison,
  ),
  panelsOf(
    (comparison) => pairRatios(comparison).map((asked) => collectMethodMatrix(comparison, asked)),
    plotMethodMatrix,
  ),
  panelsOf(collectBudgets, plotMethodBudgets),
];

/** Name of the random baseline in verdicts. */
function baselineOf({ methods }: Comparison): "random" | "random-protected" {
  return methods.some(({ toProtected }) => toProtected !== null) ? "random-protected" : "random";
}

/** Each metric against the budgets, where these differ. */
function collectBudgets(comparison: Comparison): MethodBudgets[] {
  const metrics = Map.groupBy(comparison.results ?? [], ({ task, metric }) => `${task} ${metric}`);
  return [...metrics.values()].map(([row]) => collectMethodBudgets(comparison, row!.task, row!.metric))
    .filter((budgets) => !areEqual(comparison, budgets));
}

/** The figures of a comparison: first differences, last metrics against budgets that differ. */
export function plotComparisons(comparison: Comparison): Figure[] {
  return drawPanels(comparison, PANELS);
}

const SHOWN_BUDGETS = BUDGET_NAMES.filter((name) => name !== "queries");

/** The verdicts of a row next to its intervals. */
const VERDICTS = [
  [
    "random",
    "whether it differs significantly from its random baseline, at 5%, adjusted for the whole table",
  ],
  [
    "bestOther",
    "the same against the best other online method at the same ratio, of an equal budget where there is one; unequal: at " +
    "another budget, by over a point",
  ],
] as const;

/** Lays a comparison out: one row per method. Shared by the terminal and the report. */
export function tabulateComparison(
  { methods, results = [], environment }:
    & Pick<Comparison, "methods">
    & Partial<Pick<Comparison, "results">>
    & { readonly environment: Pick<Environment, "task"> },
): TextTable {
  const task = findTask(environment.task), { headline } = task;
  // Without methods there are the columns of all tables.
  const some = (holds: (method: ComparedMethod) => boolean) => methods.length === 0 || methods.some(holds);
  const hasKeys = some(({ kvAchievedRatio }) => typeof kvAchievedRatio === "number");
  const baseline = baselinesOf(results);
  const hintOf = (opponent: string, hint: string) =>
    opponent === "random" && baseline !== "" ? hint.replace("baseline,", `baseline, ${baseline},`) : hint;
  const interval = (of: Interval | null | undefined) => of == null ? "-" : formatInterval(of, 4);
  return tabulate(methods, [
    [
      "method",
      "^ = non-causal: an upper bound",
      ({ name, nonCausal, seeds }) =>
        `${name}${nonCausal ? " ^" : ""}${seeds > 1 ? ` (${seeds} seeds)` : ""}`,
      true,
    ],
    [
      "Q skipped",
      "achieved pruning ratio: queries (attention computations) skipped, after warm-up, over all layers",
      ({ achievedRatio, missed }) => `${achievedRatio?.toFixed(3) ?? "-"}${missed ? " !" : ""}`,
    ],
    hasKeys && [
      "KV evicted",
      "achieved compression ratio: keys and values evicted of those decided, likewise",
      ({ kvAchievedRatio }) => kvAchievedRatio?.toFixed(3) ?? "-",
    ],
    // A comparison of an older version has no retained fractions.
    ...SHOWN_BUDGETS.map((name): TableColumn<ComparedMethod> => [
      BUDGETS[name].label,
      `${BUDGETS[name].title}, in % of the full model's`,
      ({ retained }) => showFraction(retained?.[name]),
    ]),
    some(({ matched }) => matched !== undefined) && [
      "ratio",
      "the ratio that it ran at for a budget equal to the others'; = the requested one; - not matched",
      ({ matched }) =>
        matched === undefined ? "-" : matched.ratio === matched.asked ? "=" : String(matched.ratio),
    ],
    ["loss", `mean loss, ${lossUnit(task)}`, ({ loss }) => loss.toFixed(4)],
    [headline.label, headline.formula, (method) => formatMetric(headline, readMetric(method, headline.name))],
    [
      "loss increase",
      "loss minus the full model's, with its interval",
      ({ lossIncrease }) => interval(lossIncrease),
    ],
    [
      "to random",
      "loss minus that of random with the same options, with its interval",
      ({ toRandom }) => interval(toRandom),
    ],
    [
      "to protected",
      "loss minus that of random-protected with the same options, with its interval",
      ({ toProtected }) => interval(toProtected),
    ],
    [
      "gap closed",
      "fraction of the gap from random to oracle with the same options, with its interval",
      ({ closed }) => closed === null ? "-" : formatPercent(closed),
    ],
    ...VERDICTS.map((
      [opponent, hint],
    ): TableColumn<ComparedMethod> => [
      `vs ${OPPONENT_NAMES[opponent]}`,
      hintOf(opponent, hint),
      ({ name }) => {
        // Row of this task's headline; a comparison of an older version has none.
        const row = results.find((row) =>
          row.method === name && row.task === task.name && row.metric === headline.name
        );
        return row === undefined ? "-" : describeOpposed(row, opponent);
      },
    ]),
    [
      "labels",
      "calibration text, whether queries decide, where it is defined, whether weights were trained for it",
      ({ labels }) => labels ?? "-",
    ],
  ]);
}

/**
 * Renders a comparison as a self-contained page: differences from the full model and from the random baseline, and the table.
 *
 * @returns HTML that loads nothing from anywhere.
 */
export function renderComparisonReport(comparison: Comparison, page: ReportOptions): string {
  const { environment, methods } = comparison;
  const { model, text } = environment, task = findTask(environment.task), isText = task.items === undefined;
  const chunks = environment.textTokens / environment.context;
  const intervals = describeIntervals(comparison);
  const tasks = [...isText ? [] : [task.name], ...comparison.items?.tasks.map((own) => own.task) ?? []];
  const options = methods.map(({ name, options }) => ({ name, options }));
  return renderPage({
    ...page,
    title: `Methods compared: ${model} on ${[...isText ? [text] : [], ...tasks].join(", ")}`,
    intro: markup`${
      renderVerdict(describeComparison(comparison))
    }<p class="muted">What methods cost on the same tokens and items: those \
that skip queries at equal pairs, and those that evict keys and values at equal KV cache, where they were matched.</p>${
      renderFacts([
        isText
          ? ["text", `${text}, ${environment.textTokens} tokens in ${chunks} of ${environment.context}`]
          : ["data", text],
        ["requested ratio", describeAsked(comparison)],
        [
          "intervals",
          isText && tasks.length > 0 ? `${intervals}; of fractions of items by Tango's score` : intervals,
        ],
        ["protocol", labelOf(task, environment.context)],
        ...runFacts(environment),
      ])
    }`,
    sections: [
      ...plotComparisons(comparison),
      comparison.results !== undefined &&
      tableSection("All results", "p values adjusted over the whole table.", tabulateResults(comparison)),
      tableSection(
        "All methods",
        `^ non-causal: an upper bound. ${MISSED_NOTE}. ${SORT_NOTE}`,
        tabulateComparison(comparison),
      ),
      recordSection(
        "Environment and options",
        environment.protocol,
        JSON.stringify({ environment, methods: options }, null, 2),
      ),
    ],
    downloads: [
      { name: "compare.csv", text: formatCsv(methods) },
      { name: "compare.json", text: formatShort(comparison) },
    ],
  });
}
