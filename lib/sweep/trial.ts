/** The records of a sweep. All of it is plain JSON. */
import type { Environment, RunConditions } from "../environment.ts";
import type { TaskTypes } from "../eval/task.ts";
import type { OptionsRecord } from "../methods/bind/options.ts";
import type { RaceName } from "../search/race.ts";
import type { SamplerName } from "../search/sampler.ts";
import type { SearchSpace } from "../search/axis.ts";
import type { BudgetName } from "./budgets.ts";

export type { Environment, RunConditions };

/** Names of the conditions of a run. The compiler reports a missing one. */
export const CONDITION_NAMES = Object.keys(
  {
    ...{ task: 0, ruleSha256: 0, calibrationSha256: 0, calibration: 0, version: 0, model: 0, modelSha256: 0 },
    ...{ text: 0, textSha256: 0, context: 0, textTokens: 0, bos: 0, backend: 0, cacheDType: 0 },
    ...{ products: 0, dtype: 0, taskSha256: 0, items: 0, filterFrom: 0 },
  } satisfies { readonly [name in keyof Required<RunConditions>]: 0 },
) as (keyof RunConditions)[];

/** @internal The fields of a finished trial besides its options and results. */
export interface TrialFacts extends RunConditions {
  /** Short digest of the options that have an effect: the same trial always has the same one. */
  readonly trial: string;
  /** SHA-256 of the conditions. */
  readonly runDigest: string;
  /** Whether the method needs the whole sequence before its first decision: an upper bound, no online method. */
  readonly nonCausal: boolean;
  readonly deno: string;
  /** When the trial ended, ISO 8601. */
  readonly finishedAt: string;
}

/** One finished trial: options, results of its task, and their conditions. */
export type Trial<T extends TaskTypes = TaskTypes> = OptionsRecord & T["filtered"] & TrialFacts;

/** @internal A trial that was stopped before it had read all chunks. It has no results: its losses are of only some chunks. */
export type StoppedTrial = OptionsRecord & Omit<TrialFacts, "finishedAt"> & {
  readonly stopped: string;
  /** Mean loss of each chunk that it read, in the race's order, to eight digits. */
  readonly chunkLosses: readonly number[];
  /** Chunks that a finished trial reads. */
  readonly chunks: number;
  /** Mean loss increase on the same chunks. */
  readonly partialDelta: number;
  /** When it was stopped, ISO 8601. */
  readonly stoppedAt: string;
};

/** Objectives to minimize: `loss` increase, or a retained fraction. */
export type ObjectiveName = "loss" | BudgetName;

/** Most that a trial may have of an objective. */
export type Limits = { readonly [name in ObjectiveName]?: number };

export interface SearchRequest {
  readonly space: SearchSpace;
  readonly sampler: SamplerName;
  readonly seed: number;
  /** Proposals; a grid ends with its last point. */
  readonly trials: number;
  /** The objectives to minimize; trials are ranked by the first. */
  readonly objectives: readonly ObjectiveName[];
  readonly limits: Limits;
}

export interface SearchOutcome {
  /** Proposals, those of trials that were known already too. */
  readonly proposed: number;
  /** Proposals whose options had been proposed before. */
  readonly repeated: number;
  /** Proposals that a method or the model does not define. */
  readonly refused: number;
  /** The fault of the first of them. */
  readonly firstRefused?: string;
}

/** @internal One of the best trials of a search. */
export interface Winner {
  /** Its digest. */
  readonly trial: string;
  /** Random decisions with its options, seed included; undefined for a method that has no such baseline. */
  readonly control?: Trial;
}

/** @internal The content of `search` in a summary. */
export interface SearchRecord extends SearchRequest, SearchOutcome {
  /** PED-ANOVA importances of the axes for the objectives. */
  readonly importances: { readonly [axis: string]: number };
  /**
   * With several objectives: the hypervolume of trials within the limits. The reference is the full model with a loss
   * of one unit and its whole budget.
   */
  readonly hypervolume?: number;
  /** Its best trials; a search that ran out of time has none. */
  readonly winners?: readonly Winner[];
}

export interface RaceRequest {
  readonly kind: RaceName;
  /** Seed of the order of chunks. */
  readonly seed: number;
}

/** @internal The outcome of a race. */
export interface RaceRecord extends RaceRequest {
  /** The order in which every trial read the chunks. */
  readonly order: readonly number[];
  readonly read: number;
  /** Chunks that all trials would have read. */
  readonly of: number;
}

/** @internal A trial in a summary. */
export type RankedTrial<T extends TaskTypes = TaskTypes> = Trial<T> & {
  /**
   * Whether no other online trial spends at most as many operations in attention at a headline metric (perplexity) at
   * least as good.
   */
  readonly pareto: boolean;
};

/** The content of `summary.json`. */
export interface SweepSummary<T extends TaskTypes = TaskTypes> {
  /** Sorted by the requested ratio, then by the task's headline metric (perplexity), best first. */
  readonly trials: readonly RankedTrial<T>[];
  /** The model without a filter. */
  readonly dense: T["dense"];
  /** The conditions and the machine of the trials. */
  readonly environment: Environment;
  /** For a search: its space, its sampler, and the importance of the axes. */
  readonly search?: SearchRecord;
  /** For a race: its outcome. */
  readonly race?: RaceRecord;
  /** For a race: trials that were stopped early, which are not among `trials`. */
  readonly stopped?: readonly StoppedTrial[];
}
