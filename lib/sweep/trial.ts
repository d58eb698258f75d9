/** What a sweep records. All of it is plain JSON. */
import type { DenseResult, FilteredResult } from "../eval/perplexity.ts";
import type { TrialOptionsRecord } from "./trial_options.ts";

/** What a trial's numbers depend on besides its options. Trials with different conditions cannot be compared. */
export interface RunConditions {
  /** Version of this package. */
  readonly version: string;
  /** Name of the model, as given. */
  readonly model: string;
  /** SHA-256 of the model file. */
  readonly modelSha256: string;
  /** Name of the text, as given. */
  readonly text: string;
  /** SHA-256 of the text. */
  readonly textSha256: string;
  /** Tokens a chunk. */
  readonly context: number;
  /** Tokens of the text that were used, chunks x context. */
  readonly textTokens: number;
  /** Whether the token stream begins with BOS. */
  readonly bos: boolean;
  /** Name of the backend. */
  readonly backend: string;
}

/** Where a sweep ran; for reading, not for comparing. */
export interface Environment extends RunConditions {
  /** SHA-256 of the conditions: trials of one sweep share it. */
  readonly runDigest: string;
  /** The protocol in words. */
  readonly protocol: string;
  /** The backend's own line: instruction set, threads, libraries. */
  readonly backendDescription: string;
  /** Deno's version. */
  readonly deno: string;
  /** Operating system and architecture. */
  readonly platform: string;
  /** When the sweep began, ISO 8601. */
  readonly startedAt: string;
}

/** One finished trial: options, results, and what they depend on. */
export interface Trial extends TrialOptionsRecord, FilteredResult, RunConditions {
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
