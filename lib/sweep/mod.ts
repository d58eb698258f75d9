/**
 * Sweeps: grids of options, trials that survive a crash, and what they add up to.
 * @module
 */
export * from "./budgets.ts";
export * from "./compared_methods.ts";
export * from "./comparison.ts";
export { presetName } from "./controls.ts";
export * from "./default_grid.ts";
export * from "./difference.ts";
export { FIELD, findWrongField, trialFields } from "./fields.ts";
export * from "./filter_from.ts";
export * from "./importance.ts";
export * from "./judgement.ts";
export type { MethodGroup } from "./measured.ts";
export * from "./pareto.ts";
export { digestConditions, digestTrialOptions } from "./digest.ts";
export type { FinishedRuns } from "./finished.ts";
export { runSweep, runTrial, type SweepArguments, type SweepProgress } from "./runner.ts";
export * from "./store.ts";
export * from "./store_records.ts";
export { OBJECTIVE_NAMES, readObjective } from "./objectives.ts";
export { Search } from "./search.ts";
export { readSearchSpace } from "./search_space.ts";
export { expandGrids, type Grid, readGrids } from "./space.ts";
export * from "./study.ts";
export { missesAsked, summarizeSweep } from "./summary.ts";
export * from "./trial.ts";
export {
  finishedTrials,
  listedTrials,
  proposeTrials,
  storedTrials,
  type TrialSource,
  withBudget,
} from "./trial_source.ts";
export { type RacingTrial, STOPPED_FIELDS, TrialRace } from "./trial_race.ts";
