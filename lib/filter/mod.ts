/**
 * The recurrence: anchors, similarity, thresholds and the layer plan. It scores tokens by the rule that it is given, and
 * needs no model.
 * @module
 */
export * from "./layer.ts";
export * from "./blocks.ts";
export * from "./option.ts";
export * from "./scan.ts";
export * from "./schedule.ts";
export * from "./sequence.ts";
export * from "./threshold.ts";
