/**
 * Every plot: `collectX` gathers numbers from results, `plotX` draws them. A new plot is a file and a line here.
 * @module
 */
export * from "./methods/comparison.ts";
export * from "./sweeps/contour.ts";
export * from "./one_run/fusion_weight.ts";
export * from "./one_run/head_maps.ts";
export * from "./sweeps/importance.ts";
export * from "./one_run/layer_skips.ts";
export * from "./one_run/layer_trace.ts";
export * from "./one_run/learned_weights.ts";
export * from "./methods/lengths.ts";
export * from "./methods/loss_budget.ts";
export * from "./methods/method_budgets.ts";
export * from "./methods/method_matrix.ts";
export * from "./sweeps/parallel.ts";
export * from "./sweeps/slices.ts";
export * from "./methods/quality.ts";
export * from "./methods/race.ts";
export * from "./one_run/retrieval.ts";
export * from "./methods/ridgelines.ts";
export * from "./methods/roc.ts";
export * from "./methods/roofline.ts";
export * from "./methods/rule_differences.ts";
export * from "./methods/rule_ranks.ts";
export * from "./methods/run_differences.ts";
export * from "./one_run/score_timeline.ts";
export * from "./one_run/similarity_scatter.ts";
export * from "./one_run/token_map.ts";
export * from "./one_run/variance_position.ts";
