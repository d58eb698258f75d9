/**
 * Sweeps: grids of options, trials that survive a crash, and their summaries.
 * @module
 */
export * from "./budgets.ts";
export * from "./compare/compared_methods.ts";
export * from "./compare/comparison.ts";
export { bindAt, type ComparedChunk } from "./compare/method_runs.ts";
export { presetName } from "./compare/controls.ts";
export * from "./default_grid.ts";
export * from "./compare/difference.ts";
export { FIELD, type Fields, findWrongField, optional, trialFields } from "./fields.ts";
export * from "./filter_from.ts";
export * from "./fit_budget.ts";
export * from "./importance.ts";
export * from "./compare/verdicts.ts";
export { EQUAL, findBudget, type Match, type Matched, MATCHES, withRatio } from "./compare/match.ts";
export type { MethodGroup } from "./compare/measured.ts";
export { digestConditions, digestTrialOptions } from "./trials/digest.ts";
export { type AskedTrial, findWrongHeadline, findWrongResult } from "./trials/result.ts";
export { runSweep, runTrial, type SweepArguments, type SweepProgress, takeAll } from "./trials/runner.ts";
export { type Salvaged, salvageStudy } from "./trials/salvage.ts";
export * from "./trials/store.ts";
export * from "./trials/store_records.ts";
export { TABLES as STUDY_TABLES } from "./trials/store_tables.ts";
export { OBJECTIVE_NAMES, readObjective, Search } from "./trials/search.ts";
export { readSearchSpace } from "./trials/search_space.ts";
export { expandGrids, type Grid, readGrids, toOptionName } from "./space.ts";
export * from "./study.ts";
export { missesRequested, paretoFront, summarizeSweep } from "./summary.ts";
export * from "./trial.ts";
export * from "./trials/trial_source.ts";
export { type RacingTrial, STOPPED_FIELDS, TrialRace } from "./trials/trial_race.ts";
