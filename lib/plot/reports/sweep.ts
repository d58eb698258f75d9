/** The report of a sweep: one HTML page that needs nothing but itself. */
import { formatMetric, readMetric } from "../../eval/metrics.ts";
import { labelOf } from "../../eval/task.ts";
import { findTask } from "../../eval/tasks/mod.ts";
import type { SweepSummary } from "../../sweep/trial.ts";
import type { Figure } from "../figure/figure.ts";
import { collectContour, isScattered, type LossContour, plotContour } from "../plots/sweeps/contour.ts";
import { collectImportance, plotImportance } from "../plots/sweeps/importance.ts";
import { collectLayerSkips, plotLayerSkips } from "../plots/one_run/layer_skips.ts";
import { collectParallel, plotParallel } from "../plots/sweeps/parallel.ts";
import { collectSlices, plotSlices } from "../plots/sweeps/slices.ts";
import { collectLossBudget, plotLossBudget } from "../plots/methods/loss_budget.ts";
import { collectQuality, plotQuality } from "../plots/methods/quality.ts";
import { collectRace, plotRace } from "../plots/methods/race.ts";
import { type Html, markup } from "../figure/html.ts";
import {
  recordSection,
  renderFacts,
  renderPage,
  renderVerdict,
  type ReportOptions,
  runFacts,
  SORT_NOTE,
  tableSection,
} from "../figure/page.ts";
import { plural } from "../../plural.ts";
import { isControl, MISSED_NOTE, nameTrials } from "../trials/trial_label.ts";
import { plotBestSoFar, progressOf } from "./best_so_far.ts";
import { formatCsv, formatShort } from "../csv.ts";
import { drawPanels, type Panel, panel, panelsOf } from "./panels.ts";
import { describeSearch } from "./search_notes.ts";
import { tabulateTrials } from "./trial_table.ts";
import { collectVerdicts, describeVerdicts } from "./verdict.ts";

/** Budgets for the horizontal axes of losses; queries have a plot of their own. */
const REPORTED_BUDGETS = ["cache", "pairs", "attentionFlops"] as const;

/** The plots of a sweep's report, in order. */
const PANELS: readonly Panel<SweepSummary>[] = [
  panelsOf(
    (sweep) => REPORTED_BUDGETS.map((budget) => collectLossBudget(sweep, budget)),
    (numbers) => plotLossBudget(numbers),
  ),
  panelsOf(collectMetrics, ({ quality, name }) => plotQuality(quality, name)),
  panel(ofSeveral(collectParallel), plotParallel, ({ trials }) => trials.length > 0),
  panel(ofSeveral(collectImportance), plotImportance),
  panel(ofSeveral(collectSlices), plotSlices),
  panel((sweep) => collectContour(sweep), plotContour, hasSurface),
  panel((sweep) => collectLayerSkips(sweep), plotLayerSkips, ({ ratios }) => ratios.some(differs)),
  panel(collectSearch, plotBestSoFar),
  panel((sweep) => sweep.race && collectRace(sweep), plotRace),
];

/** The figures of a sweep's report, in order; only those that have data. */
export function plotSweep(summary: SweepSummary): Figure[] {
  return drawPanels(summary, PANELS);
}

/** Each metric against skipped queries, where trials skip some. */
function collectMetrics(sweep: SweepSummary) {
  const quality = collectQuality(sweep), { curves, bands, metrics } = quality;
  return curves.length + bands.length === 0 ? [] : metrics.map(({ name }) => ({ quality, name }));
}

/** What only several trials show. */
function ofSeveral<T>(collect: (sweep: SweepSummary) => T) {
  return (sweep: SweepSummary) => sweep.trials.length > 1 ? collect(sweep) : undefined;
}

function collectSearch(sweep: SweepSummary) {
  const isSearch = sweep.search !== undefined && sweep.trials.some((trial) => !isControl(trial));
  return isSearch ? progressOf(sweep) : undefined;
}

/** Values of each option that contours need, lest the reader see a surface where there are a few points. */
const CONTOUR_VALUES = 3;

/** Points that contours between scattered trials need. */
const CONTOUR_POINTS = 12;

function hasSurface(contour: LossContour): boolean {
  const { x, y, loss } = contour, cells = loss.flat(), points = cells.filter((cell) => cell !== null).length;
  return Math.min(x.values.length, y.values.length) >= CONTOUR_VALUES &&
    (points === cells.length || isScattered(contour) && points >= CONTOUR_POINTS);
}

/** Ratios further apart than this differ by plan. */
const EVEN = 0.05;

function differs(ratios: readonly number[]): boolean {
  const filtered = ratios.filter((ratio) => ratio > 0);
  return Math.max(...filtered) - Math.min(...filtered) > EVEN;
}

/**
 * Renders a sweep as a self-contained page: losses against budgets and skipped fractions, skips per layer, the table.
 *
 * @returns HTML that loads nothing from anywhere.
 */
export function renderSweepReport(summary: SweepSummary, page: ReportOptions): string {
  const { dense, environment, trials, stopped = [] } = summary;
  const configurations = plural(trials.length, "configuration");
  return renderPage({
    ...page,
    title: `Token Filtering sweep: ${environment.model} on ${environment.text}`,
    intro: markup`${
      renderVerdict(describeVerdicts(collectVerdicts(summary), summary), summary.search !== undefined)
    }\
<p class="muted">Loss increase of query skipping and of eviction, for ${configurations} of the filter.</p>
${describeSearch(summary).map((line) => markup`<p class="muted">${line}</p>\n`)}
${facts(summary)}`,
    sections: [
      ...plotSweep(summary),
      tableSection(
        "All trials",
        "* and a tinted row: on the Pareto front of attention FLOPs, of online trials. ^ non-causal: an upper bound. " +
          `${MISSED_NOTE}. ${SORT_NOTE}`,
        { ...tabulateTrials(summary), marked: (row) => trials[row - 1]?.pareto === true },
      ),
      recordSection("Environment and protocol", environment.protocol, formatShort({ dense, environment }, 2)),
    ],
    downloads: [
      { name: "trials.csv", text: formatCsv(nameTrials([...trials, ...stopped])) },
      { name: "summary.json", text: formatShort(summary) },
    ],
  });
}

function facts({ dense, environment }: SweepSummary): Html {
  const task = findTask(environment.task), { headline } = task;
  return renderFacts([
    [`dense ${headline.name}`, formatMetric(headline, readMetric(dense, headline.name))],
    [
      "text",
      `${environment.text}, ${dense.tokens} tokens in ${plural(dense.chunks, "chunk")} of ${dense.context}`,
    ],
    ["protocol", labelOf(task, environment.context)],
    ...runFacts(environment),
  ]);
}
