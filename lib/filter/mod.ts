/**
 * The method: anchors, similarity, fusion, thresholds, layer plan, and the learned rule. No model is needed here.
 * @module
 */
export {
  type Absorb,
  ABSORBS,
  type Anchor,
  ANCHORS,
  cloneLayerState,
  createLayerState,
  createScanOutput,
  FEATURE_GROUPS,
  type FeatureGroup,
  type FilterObserve,
  type FilterScan,
  FUSION_RULES,
  type FusionRule,
  type LayerSpec,
  type LayerState,
  type ScanInput,
  type ScanOutput,
  THRESHOLD_POLICIES,
  type ThresholdPolicy,
} from "./layer.ts";
export { observeLayer } from "./learned.ts";
export * from "./options.ts";
export { scanLayer } from "./scan.ts";
export { planLayers, type PlannedLayer } from "./schedule.ts";
export { chooseHighest } from "./threshold.ts";
export * from "./token_filter.ts";
