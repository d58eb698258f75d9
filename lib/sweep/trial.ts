/** What a sweep records. All of it is plain JSON. */
import type { Environment, RunConditions } from "../environment.ts";
import type { DenseResult, FilteredResult } from "../eval/perplexity.ts";
import type { OptionsRecord } from "../methods/options.ts";

export type { Environment, RunConditions };

/** One finished trial: options, results, and what they depend on. */
export interface Trial extends OptionsRecord, FilteredResult, RunConditions {
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

/** A trial in a summary. */
export interface RankedTrial extends Trial {
  /** Whether no other on-line trial skips at least as much at a perplexity at most as high. */
  readonly pareto: boolean;
}

/** The content of `summary.json`. */
export interface SweepSummary {
  /** Sorted by pruneRatio, then perplexity. */
  readonly trials: readonly RankedTrial[];
  /** The model without a filter. */
  readonly dense: DenseResult;
  /** What the trials ran on. */
  readonly environment: Environment;
}
