/**
 * Plots of results, which show themselves in notebooks and save themselves as pages and images.
 *
 * ```ts
 * import { collectScoreTimeline, plotScoreTimeline } from "@tokenfilter/tokenfilter/plot";
 * const trace = { layer: 5, redundancy: [NaN, 0.9, 0.1], threshold: [NaN, 0.5, 0.6], keep: [1, 0, 1] };
 * const figure = plotScoreTimeline(collectScoreTimeline([trace], { texts: ["One", " two", " three"] }));
 * console.assert(figure.data.some(({ name }) => name === "skipped"));
 * ```
 *
 * Each plot is a pair: `collectX` gathers numbers from results, `plotX` draws them. A report is a page of figures and
 * tables.
 * @module
 */
export {
  axis,
  baseLayout,
  ChromiumError,
  emptyFigure,
  Figure,
  type FigureParts,
  type ImageOptions,
  type Json,
  type JsonObject,
  type PlotlySource,
  renderFigurePage,
  type ReportOptions,
  setPlotly,
  type Theme,
} from "../plot/figure/mod.ts";
export * from "../plot/plots/mod.ts";
export {
  plotComparisons,
  plotHeads,
  plotHeadsText,
  plotSweep,
  renderComparisonReport,
  renderHeadsReport,
  renderSweepReport,
} from "../plot/reports/mod.ts";
