/**
 * Many configurations on one text: grids of options, methods compared with intervals, and which options matter.
 *
 * ```ts
 * import { loadModel, readBuiltinText, ReferenceBackend } from "@tokenfilter/tokenfilter";
 * import { sweepStudy } from "@tokenfilter/tokenfilter/sweep";
 * const model = await loadModel("tiny", new ReferenceBackend());
 * const study = { model, text: await readBuiltinText(), context: 32, tokens: 32 };
 * const { trials } = await sweepStudy(study, [{ fusion: ["key", "value"], pruneRatio: 0.3, warmup: 8 }]);
 * console.assert(trials.length === 2);
 * ```
 * @module
 */
export {
  COMPARED_METHODS,
  comparedAtRatios,
  comparedMethods,
  type NamedMethod,
  RIVAL_METHODS,
} from "../sweep/compared_methods.ts";
export {
  type ComparedChunk,
  type ComparedLosses,
  type ComparedMethod,
  compareMethods,
  type Comparison,
  type ComparisonArguments,
} from "../sweep/comparison.ts";
export { type Budget, type BudgetName, BUDGETS, type Counted, type Shares } from "../sweep/budgets.ts";
export { DEFAULT_GRID } from "../sweep/default_grid.ts";
export {
  type DifferenceRow,
  type DifferenceSide,
  type DifferingValue,
  diffRuns,
  type RunDifference,
  type RunResult,
  type ScoreResult,
} from "../sweep/difference.ts";
export {
  type Axis,
  type AxisInfo,
  type ChoiceAxis,
  type Condition,
  type NumberAxis,
  type Observation,
  type Point,
  type SearchSpace,
} from "../search/axis.ts";
export { hypervolume } from "../search/hypervolume.ts";
export { pedAnova } from "../search/ped_anova.ts";
export { type Race, type RaceName, RACES, type Rival } from "../search/race.ts";
export { type SamplerKind, type SamplerName, SAMPLERS, type TrialSampler } from "../search/sampler.ts";
export * from "../sweep/importance.ts";
export * from "../sweep/judgement.ts";
export type { MethodGroup, PerLayer, Spent } from "../sweep/measured.ts";
export * from "../sweep/pareto.ts";
export type { Limits, ObjectiveName } from "../sweep/objectives.ts";
export type { SearchOutcome, SearchRecord, SearchRequest } from "../sweep/search.ts";
export {
  type RaceRecord,
  type RaceRequest,
  type RacingTrial,
  type StoppedTrial,
  TrialRace,
} from "../sweep/trial_race.ts";
export { readSearchSpace } from "../sweep/search_space.ts";
export { expandGrids, type Grid, readGrids } from "../sweep/space.ts";
export {
  compareStudy,
  type ComparisonControl,
  DEFAULT_CONTEXT,
  describeStudy,
  encodeStudy,
  openStudy,
  type Study,
  type StudyPlan,
  type SweepControl,
  sweepStudy,
} from "../sweep/study.ts";
export * from "../sweep/trial.ts";
export type { SweepProgress } from "../sweep/runner.ts";
export type { FinishedRuns } from "../sweep/run_log.ts";
