/** What a sweep records. All of it is plain JSON. */
import type { Environment, RunConditions } from "../environment.ts";
import type { TaskTypes } from "../eval/task.ts";
import type { OptionsRecord } from "../methods/options.ts";
import type { SearchRecord } from "./search.ts";
import type { RaceRecord, StoppedTrial } from "./trial_race.ts";

export type { Environment, RunConditions };

/** @internal What a finished trial says besides its options and results. */
export interface TrialFacts extends RunConditions {
  /** Short digest of the options that have an effect: the same trial always has the same one. */
  readonly trial: string;
  /** SHA-256 of the conditions. */
  readonly runDigest: string;
  /** Whether the method needs the whole sequence before its first decision: an upper bound, no on-line method. */
  readonly looksAhead: boolean;
  /** Version of Deno. */
  readonly deno: string;
  /** When the trial ended, ISO 8601. */
  readonly finishedAt: string;
}

/** One finished trial: options, results of its task, and what they depend on. */
export type Trial<T extends TaskTypes = TaskTypes> = OptionsRecord & T["filtered"] & TrialFacts;

/** @internal A trial in a summary. */
export type RankedTrial<T extends TaskTypes = TaskTypes> = Trial<T> & {
  /**
   * Whether no other on-line trial spends at most as many operations in attention at a headline metric (perplexity) at
   * least as good.
   */
  readonly pareto: boolean;
};

/** The content of `summary.json`. */
export interface SweepSummary<T extends TaskTypes = TaskTypes> {
  /** Sorted by the share asked for, then by the task's headline metric (perplexity), best first. */
  readonly trials: readonly RankedTrial<T>[];
  /** The model without a filter. */
  readonly dense: T["dense"];
  /** What the trials ran on. */
  readonly environment: Environment;
  /** Of a search: what was searched, by whom, and which axes matter. */
  readonly search?: SearchRecord;
  /** Of a race: how it went. */
  readonly race?: RaceRecord;
  /** Of a race: trials that were stopped early, which are not among `trials`. */
  readonly stopped?: readonly StoppedTrial[];
}
