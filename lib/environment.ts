/** The conditions that a record of measurements contains. All of it is plain JSON. */

import type { Backend } from "./backend.ts";
import type { CacheDType, WeightDType } from "./dtype.ts";

/**
 * Everything besides its options that a run's numbers depend on. Runs with different conditions cannot be compared.
 * Model and text are identified by the names that the user gave.
 */
export interface RunConditions {
  /** Name of the evaluation task; left out for perplexity. */
  readonly task?: string;
  /** SHA-256 of the file of a task of the user's own, where one was given. */
  readonly taskSha256?: string;
  /** Items that were used, of a task that has some. */
  readonly items?: number;
  /** Where filtering of items begins, instead of a method's warm-up: tokens, or a fraction of each context. */
  readonly filterFrom?: string;
  readonly version: string;
  readonly model: string;
  readonly modelSha256: string;
  readonly text: string;
  readonly textSha256: string;
  readonly context: number;
  /** Tokens of the text that were used, chunks x context. */
  readonly textTokens: number;
  readonly bos: boolean;
  readonly backend: string;
  /** SHA-256 of the file of a rule of the user's own, where one was given. */
  readonly ruleSha256?: string;
  /** SHA-256 of the text that methods were fitted on, where one was given. */
  readonly calibrationSha256?: string;
  /** Kind of the calibration text, and how much of it was used. */
  readonly calibration?: string;
  readonly cacheDType: CacheDType;
  /** Rounding of products with weights; left out: none. */
  readonly products?: Backend["products"];
  /** Element type that matrices were turned into; left out: as the model's file has them. */
  readonly dtype?: WeightDType;
}

/** @internal Where something ran; for reading, not for comparing. */
export interface Environment extends RunConditions {
  /** SHA-256 of the conditions: runs with the same one may be compared. */
  readonly runDigest: string;
  /** SHA-256 of the token ids that were read: where two runs share it and the context, their losses are of the same tokens. */
  readonly tokensSha256: string;
  /** Digest of the tokenizer's behavior; older records have none. */
  readonly tokenizerSha256?: string;
  readonly protocol: string;
  /** The same in few words: results of other labels are not compared with each other; older records have none. */
  readonly label?: string;
  /** The backend's own line: instruction set, threads, libraries. */
  readonly backendDescription: string;
  readonly deno: string;
  /** Operating system and architecture. */
  readonly platform: string;
  /** The most bytes that the process held, looked at between chunks and items; where a task counts them. */
  readonly peakMemoryBytes?: number;
  /** When the run began, ISO 8601. */
  readonly startedAt: string;
}
