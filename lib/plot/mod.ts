/**
 * Plots: figures as values, and the report of a sweep.
 * @module
 */
export type { Figure, Json } from "./figure.ts";
export { collectLayerSkips, type LayerSkips, plotLayerSkips } from "./layer_skips.ts";
export {
  type BandPoint,
  collectQuality,
  plotQuality,
  type Quality,
  type QualityCurve,
  type QualityPoint,
  type Range as QualityRange,
} from "./quality.ts";
export { plotSweep, renderSweepReport } from "./sweep_report.ts";
export { applyTheme, DARK, LIGHT, type Theme } from "./theme.ts";
export { ruleName } from "./trial_label.ts";
export { tabulateTrials, type TrialTable } from "./trial_table.ts";
