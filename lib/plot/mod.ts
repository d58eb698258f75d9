/**
 * Plots: figures that show themselves in notebooks and save themselves as pages and images, and reports made of them.
 *
 * Each plot is a pair: `collectX` gathers numbers from results, `plotX` draws them.
 *
 * @module
 */
export * from "./anatomy.ts";
export {
  type BenchReport,
  plotBench,
  renderBenchReport,
  tabulateKernels,
  tabulateLengths,
} from "./bench_report.ts";
export { CHROMIUM_FLAGS, ChromiumError, expectChromium, findChromium } from "./chromium.ts";
export {
  collectComparison,
  type ComparisonRow,
  type ComparisonRows,
  formatInterval,
  formatPercent,
  plotComparison,
} from "./comparison.ts";
export { plotComparisons, renderComparisonReport, tabulateComparison } from "./comparison_report.ts";
export { collectContour, type ContourOptions, type LossContour, plotContour } from "./contour.ts";
export { type MediaBundle, plotlyScript, readDisplayed, setPlotly, setStaticImage } from "./display.ts";
export {
  axis,
  baseLayout,
  emptyFigure,
  escapeText,
  Figure,
  type FigureParts,
  type Json,
  type JsonObject,
} from "./figure.ts";
export { type ImageOptions, renderImages } from "./image.ts";
export { collectImportance, plotImportance } from "./importance.ts";
export { collectLayerSkips, type LayerSkips, plotLayerSkips } from "./layer_skips.ts";
export {
  collectLengths,
  type LengthCurve,
  type LengthCurves,
  type LengthMeasure,
  plotLengths,
} from "./lengths.ts";
export { type PlotlySource, renderFigurePage, type ReportOptions } from "./page.ts";
export { collectParallel, type ParallelAxis, type ParallelTrials, plotParallel } from "./parallel.ts";
export { PLOTLY_INTEGRITY, PLOTLY_URL, PLOTLY_VERSION, readPlotly } from "./plotly.ts";
export {
  type BandPoint,
  collectQuality,
  plotQuality,
  type Quality,
  type QualityCurve,
  type QualityPoint,
  type Range as QualityRange,
} from "./quality.ts";
export {
  collectRoofline,
  type KernelRow,
  type MachineRoof,
  plotRoofline,
  type Roofline,
  type RooflinePoint,
} from "./roofline.ts";
export { renderSite, SITE_FILES, type SiteEntry } from "./site.ts";
export { plotSweep, renderSweepReport } from "./sweep_report.ts";
export { applyTheme, DARK, LIGHT, type Theme } from "./theme.ts";
export { ruleName } from "./trial_label.ts";
export { tabulateTrials, type TrialTable } from "./trial_table.ts";
