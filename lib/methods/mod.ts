/**
 * Methods: they decide which tokens' attention is skipped. A new one is a file of its own and one line in `list.ts`;
 * flags, grids, records, reports and the contract test then include it.
 * @module
 */
export { createPruner } from "./bind/create_pruner.ts";
export * from "./bind/custom_rule.ts";
export * from "./bind/labels.ts";
export * from "./bind/option_table.ts";
export * from "./bind/options.ts";
export { createReplay, shuffleDecisions } from "./bind/replay.ts";
export * from "./bind/sides.ts";
export { asksOf, sourcesOf } from "./bind/signal_store.ts";
export { openJudgement } from "./bind/signal_rule.ts";
export { bindRule, substituteOf } from "./bind/substitute.ts";
export * from "./bind/token_filter.ts";
export * from "./list.ts";
export * from "./model_pruning/choose_parts.ts";
export * from "./protocol/calibration.ts";
export { createDropped } from "./protocol/dropped.ts";
export type { LiveKeys, LiveToken } from "./protocol/live_keys.ts";
export * from "./protocol/method.ts";
export * from "./protocol/pruner.ts";
export * from "./protocol/signals.ts";
