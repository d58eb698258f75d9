/**
 * What methods are made of: the list of them, the table of their options, rules, and what a model asks of a method.
 *
 * ```ts
 * import { definePruner, type PrunerSequence } from "@tokenfilter/tokenfilter/methods";
 * const everyOther = (count: number) => Uint8Array.from({ length: count }, (_, i) => i % 2);
 * const decide = ({ count }: { count: number }) => ({ taken: count, keep: everyOther(count) });
 * const sequence: PrunerSequence = { decide, fork: () => sequence };
 * const pruner = definePruner({ name: "every-other", layers: [9], start: () => sequence });
 * console.assert(pruner.start().decide({ count: 4 } as never, 0).keep.join() === "0,1,0,1");
 * ```
 *
 * {@linkcode createCustomRule} of the main entry is the short way to a rule of one's own.
 * @module
 */
export type {
  FilterObserve,
  FilterScan,
  LayerSpec,
  LayerState,
  ScanInput,
  ScanOutput,
} from "../filter/layer.ts";
export type {
  Given,
  Narrower,
  Option,
  OptionInfo,
  OptionTable,
  Others,
  Packed,
  Recorded,
  Resolved,
  ValueOf,
} from "../filter/option.ts";
export { type Anchor, FILTER_OPTIONS, type FilterOptions, type KeyState } from "../filter/options.ts";
export type { Reads, Rule, RuleMemory, RuleToken, Scorer } from "../filter/rule.ts";
export type { FilterBackend, LearnedInput, Rows } from "../filter/sequence.ts";
export type { Moments } from "../filter/similarity.ts";
export type {
  Adapts,
  Alteration,
  Alters,
  CalibratedModel,
  Calibration,
  LayerAlteration,
  LayerVisit,
  SeenPrompt,
  SeeRows,
} from "../methods/model_pruning/calibration.ts";
export { createDense } from "../methods/dense.ts";
export { createDropped } from "../methods/model_pruning/dropped.ts";
export { sayLabels } from "../methods/labels.ts";
export { EVICTIONS, KEY_RULES, METHODS, OFFLINE, type OwnOptions, type RuleName } from "../methods/list.ts";
export type { LiveKeys, LiveToken } from "../methods/eviction/live_keys.ts";
export type {
  AnyRule,
  EvictionMethod,
  Labels,
  Looks,
  Method,
  MethodInfo,
  None,
  PrunerMethod,
  RuleMethod,
} from "../methods/method.ts";
export type { AnyOffline, OfflineMethod, PromptMethod } from "../methods/model_pruning/offline.ts";
export { chooseParts, type PartImportance, type PartKind } from "../methods/model_pruning/parts.ts";
export {
  CHOICES,
  CONTROL_OPTIONS,
  OPTIONS,
  type Options,
  type OptionsRecord,
  type Preset,
  PRESETS,
  type ResolvedOptions,
} from "../methods/options.ts";
export {
  type Decided,
  type DecisionTrace,
  definePruner,
  type DroppedParts,
  type KeyInput,
  type KeySequence,
  type KeySide,
  type LayerInput,
  type PrunerContext,
  type PrunerDecision,
  type PrunerSequence,
  type Rehearsal,
  type Substitute,
} from "../methods/pruner.ts";
export { createReplay, type ReplayOptions } from "../methods/replay.ts";
export { shuffleDecisions } from "../methods/shuffle.ts";
export { KEY_OPTIONS } from "../methods/sides.ts";
export type { CustomRuleOptions } from "../methods/custom_rule.ts";
