/**
 * Every plot: `collectX` gathers numbers from results, `plotX` draws them. A new plot is a file and a line here.
 * @module
 */
export {
  collectComparison,
  type ComparisonBase,
  type ComparisonRow,
  type ComparisonRows,
  formatInterval,
  plotComparison,
} from "./comparison.ts";
export { collectContour, type ContourOptions, type LossContour, plotContour } from "./contour.ts";
export * from "./fusion_weight.ts";
export * from "./head_maps.ts";
export { collectImportance, plotImportance } from "./importance.ts";
export { collectLayerSkips, type LayerSkips, plotLayerSkips } from "./layer_skips.ts";
export {
  type Column,
  type LayerTrace,
  recordTrace,
  splitLayers,
  type TraceColumns,
  type TraceRecorder,
} from "./layer_trace.ts";
export * from "./learned_weights.ts";
export {
  collectLengths,
  type LengthCurve,
  type LengthCurves,
  type LengthMeasure,
  plotLengths,
} from "./lengths.ts";
export { collectLossBudget, type LossBudget, plotLossBudget } from "./loss_budget.ts";
export * from "./method_budgets.ts";
export {
  collectMethodMatrix,
  type MethodMatrix,
  type PairCounts,
  plotMethodMatrix,
} from "./method_matrix.ts";
export { collectParallel, type ParallelAxis, type ParallelTrials, plotParallel } from "./parallel.ts";
export type {
  BandPoint,
  CurveMetric,
  Range as CurveRange,
  TrialCurve,
  TrialCurves,
  TrialPoint,
} from "../figure/trial_curves.ts";
export { collectQuality, type DrawnMetric, plotQuality, type Quality } from "./quality.ts";
export { collectRace, plotRace, type RaceCurve, type RaceCurves } from "./race.ts";
export * from "./ridgelines.ts";
export * from "./roc.ts";
export {
  collectRoofline,
  type KernelRow,
  type MachineRoof,
  plotRoofline,
  type Roofline,
  type RooflinePoint,
} from "./roofline.ts";
export * from "./rule_differences.ts";
export * from "./rule_ranks.ts";
export {
  collectRunDifferences,
  plotRunDifferences,
  type RunDifferencePoint,
  type RunDifferences,
} from "./run_differences.ts";
export {
  collectScoreTimeline,
  plotScoreTimeline,
  type ScoreTimeline,
  type TimelineLayer,
} from "./score_timeline.ts";
export * from "./similarity_scatter.ts";
export * from "./token_map.ts";
export * from "./variance_position.ts";
