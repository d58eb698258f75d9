/**
 * The recurrence: anchors, similarity, thresholds and the layer plan. It scores tokens by the rule that it is given, and
 * needs no model.
 * @module
 */
export {
  cloneLayerState,
  codeOf,
  createLayerState,
  createScanOutput,
  type LayerSpec,
  type ScanOutput,
} from "./layer.ts";
export { judgedAt, NEVER } from "./blocks.ts";
export * from "./option.ts";
export { observeLayer, scanLayer } from "./scan.ts";
export { planLayers, wholeParts } from "./schedule.ts";
export * from "./sequence.ts";
export { THRESHOLD_POLICIES } from "./threshold.ts";
