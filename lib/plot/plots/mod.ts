/**
 * Every plot: `collectX` gathers numbers from results, `plotX` draws them. A new plot is a file and a line here.
 * @module
 */
export * from "./comparison.ts";
export * from "./contour.ts";
export * from "./fusion_weight.ts";
export * from "./head_maps.ts";
export * from "./importance.ts";
export * from "./layer_skips.ts";
export * from "./layer_trace.ts";
export * from "./learned_weights.ts";
export * from "./lengths.ts";
export * from "./loss_budget.ts";
export * from "./method_budgets.ts";
export * from "./method_matrix.ts";
export * from "./parallel.ts";
export * from "./quality.ts";
export * from "./race.ts";
export * from "./retrieval.ts";
export * from "./ridgelines.ts";
export * from "./roc.ts";
export * from "./roofline.ts";
export * from "./rule_differences.ts";
export * from "./rule_ranks.ts";
export * from "./run_differences.ts";
export * from "./score_timeline.ts";
export * from "./similarity_scatter.ts";
export * from "./token_map.ts";
export * from "./variance_position.ts";
