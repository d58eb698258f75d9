/**
 * The method: anchors, similarity, fusion, thresholds, layer plan, and the learned rule. No model is needed here.
 * @module
 */
export { FUSION, type FusionEntry } from "./fusion.ts";
export * from "./layer.ts";
export { observeLayer } from "./learned.ts";
export * from "./options.ts";
export { scanLayer } from "./scan.ts";
export { countFiltered, planLayers, type PlannedLayer } from "./schedule.ts";
export type { Moments } from "./similarity.ts";
export { chooseHighest, firstDecided, quantile } from "./threshold.ts";
export * from "./token_filter.ts";
