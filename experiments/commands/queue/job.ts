/** The queue's content: jobs, and studies' descriptions. Others may write to it, so everything is checked. */
import { UsageError } from "../../../lib/errors.ts";
import { type OptionsRecord, readRecord, type ResolvedOptions } from "../../../lib/methods/bind/options.ts";
import { FIELD, type Fields, findWrongField } from "../../../lib/sweep/fields.ts";
import type { RaceRequest } from "../../../lib/sweep/trial.ts";
import { digestConditions, digestTrialOptions } from "../../../lib/sweep/trials/digest.ts";
import type {
  EndedJob,
  StoredRecord,
  StoredTrial,
  StudyConditions,
  StudyFlags,
} from "../../../lib/sweep/trials/store_records.ts";
import { parseJson } from "../cli/files.ts";

/** The queue's name, within a prefix. */
export const QUEUE_NAME = "trials";

export interface TrialJob {
  /** The sweep that the job belongs to: several sweeps may belong to one study, and each has its own results. */
  readonly sweep: string;
  /** Digest of the study's conditions, which is in the key of its description. */
  readonly study: string;
  readonly digest: string;
  readonly options: OptionsRecord;
  /** The race that the sweep's trials run, if any. */
  readonly race?: RaceRequest;
}

/** The job of a trial. */
export function jobOf(
  { digest, options }: Pick<TrialJob, "digest" | "options">,
  { sweep, study, race }: Pick<TrialJob, "sweep" | "study"> & { readonly race?: RaceRequest | undefined },
): TrialJob {
  return { sweep, study, digest, options, ...(race && { race }) };
}

/** The description of a study. A worker must have the same model, text and code. */
export interface QueuedStudy {
  readonly conditions: StudyConditions;
  readonly flags: StudyFlags;
  /** SHA-256 of the sources that compute. */
  readonly codeSha256: string;
  /** The recipe's JSON, where the study is one of `deno task reproduce`. */
  readonly recipe?: string;
}

export interface JobProgress {
  /** The worker that runs the trial. */
  readonly owner: string;
  /** Finished fraction of its chunks. */
  readonly fraction?: number;
  /** The reason why that worker refuses it. */
  readonly refused?: string;
}

/** The result of a job: a trial, or the end of a job whose results came before. */
export type JobResult = StoredRecord | EndedJob;

/** The content of jobs and results, which each command defines for its own. */
export interface JobKind {
  /** The text that all jobs read; left out where workers get their data by themselves. */
  readonly text?: string;
  /** As of {@linkcode QueuedStudy}. */
  readonly recipe?: string;
  /** The fault in a result of a trial; undefined if it is that trial's. */
  findWrong(result: unknown, trial: StoredTrial): string | undefined;
  /** Keeps a result in the study. */
  take(result: JobResult, trial: StoredTrial): void;
  /** Keeps chunks and items that workers finish before their results. @returns Why one was refused, for each that was. */
  takeUnits?(units: readonly string[]): readonly string[];
}

export const studyKey = (prefix: string, study: string) => `${prefix}:study:${study}`;
/** Key of the list of a sweep's trials that have ended, where they race. */
export const endedKey = (prefix: string, sweep: string) => `${prefix}:ended:${sweep}`;
/** Key of the list of a recipe's chunks and items that workers have finished and the study has not taken yet. */
export const unitsKey = (prefix: string, sweep: string) => `${prefix}:units:${sweep}`;
export const textKey = (prefix: string, sha256: string) => `${prefix}:text:${sha256}`;

/** Seconds that descriptions and texts are kept after their last use. */
export const KEEP_S = 30 * 24 * 3600;

/** A job's name: one for each trial of a sweep, however often it is submitted. Jobs of a recipe have names with colons. */
export const jobId = (sweep: string, digest: string) => `${sweep}-${encodeURIComponent(digest)}`;

const record: Fields[string] = ["a record", (value) => typeof value === "object" && value !== null];
const JOB: Fields = { sweep: FIELD.text, study: FIELD.text, digest: FIELD.text, options: record };
const flags: Fields[string] = [
  "texts by flag",
  (value) => record[1](value) && Object.values(value as object).every((text) => typeof text === "string"),
];
const STUDY: Fields = {
  ...{ conditions: record, flags, codeSha256: FIELD.text },
  recipe: ["a text, or nothing", (value) => value === undefined || typeof value === "string"],
};

/** The reason why a job's data are not those of a trial. */
export const findWrongJob = (data: unknown): string | undefined => findWrongField(Object(data), JOB);

/** The method of a job, once its study's rule is loaded. @throws {UsageError} If its options are none, or another trial's. */
export function readMethod({ options, digest }: TrialJob): ResolvedOptions {
  const wrong = findWrongField({ ...options }, {});
  if (wrong !== undefined) throw new UsageError(`Cannot take a job: ${wrong}`);
  try {
    const method = readRecord(options);
    if (digestTrialOptions(method) === digest) return method;
  } catch (error) {
    if (!(error instanceof TypeError || error instanceof RangeError)) throw error;
  }
  throw new UsageError("Cannot take a job: its digest is not that of its options");
}

/** Reads the description of a study. @throws {UsageError} If it is missing, or is not that of the study. */
export async function readStudy(study: string, text: string | null): Promise<QueuedStudy> {
  const refuse = (why: string) =>
    new UsageError(`Cannot take trials of study ${study}: its description ${why}`);
  if (text === null) throw refuse("has gone");
  const described = parseJson(text) as QueuedStudy | undefined;
  if (described === undefined) throw refuse("is not JSON");
  const wrong = findWrongField(Object(described), STUDY);
  if (wrong !== undefined) throw refuse(`is none: ${wrong}`);
  if (await digestConditions(described.conditions) !== study) throw refuse("is of other conditions");
  return described;
}
