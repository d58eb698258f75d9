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
  type FilterObserve,
  type FilterScan,
  type LayerSpec,
  type LayerState,
  type ScanInput,
  type ScanOutput,
} from "./layer.ts";
export * from "./option.ts";
export * from "./options.ts";
export type { Reads, Rule, RuleMemory, RuleToken, Scorer } from "./rule.ts";
export { observeLayer, scanLayer } from "./scan.ts";
export { planLayers, type PlannedLayer, type PlanOptions } from "./schedule.ts";
export type { Moments } from "./similarity.ts";
export * from "./sequence.ts";
export {
  chooseHighest,
  POLICIES,
  type Policy,
  type Threshold,
  THRESHOLD_POLICIES,
  type ThresholdPolicy,
} from "./threshold.ts";
