/** The plots that show how the method decides. */
export * from "./fusion_weight.ts";
export * from "./head_maps.ts";
export { plotHeads, plotHeadsText, renderHeadsReport } from "./heads_report.ts";
export {
  type Column,
  type LayerTrace,
  recordTrace,
  splitLayers,
  type TraceColumns,
  type TraceRecorder,
} from "./layer_trace.ts";
export * from "./learned_weights.ts";
export * from "./ridgelines.ts";
export * from "./roc.ts";
export * from "./rule_differences.ts";
export * from "./rule_ranks.ts";
export {
  collectScoreTimeline,
  plotScoreTimeline,
  type ScoreTimeline,
  type TimelineLayer,
} from "./score_timeline.ts";
export * from "./similarity_scatter.ts";
export * from "./token_map.ts";
export * from "./variance_position.ts";
