/** The records of a study on disk. */
import type { Environment, RunConditions } from "../../environment.ts";
import type { DenseTaskResult } from "../../eval/task.ts";
import type { OptionsRecord } from "../../methods/bind/options.ts";
import type { Point } from "../../search/axis.ts";
import type { RaceRequest, SearchRequest, StoppedTrial, Trial } from "../trial.ts";

/** States of a trial: it waits, one worker runs it, and it ends in one of three ways, `pruned` = stopped early. */
export type TrialState = "waiting" | "running" | "complete" | "pruned" | "failed";

/** The states, in the order of tables. */
export const TRIAL_STATES: readonly TrialState[] = ["waiting", "running", "complete", "pruned", "failed"];

export type Counts = { readonly [state in TrialState]: number };

/** The flags with which a study's trials are run again, on this machine or another one. */
export interface StudyFlags {
  /** Flags by name, each with its text; paths are absolute. */
  readonly [flag: string]: string;
}

/** Conditions of runs on a text, or of items, which have none; and further conditions that a command sets. */
export type StudyConditions =
  & Pick<RunConditions, "version" | "model" | "modelSha256" | "backend" | "cacheDType">
  & Partial<RunConditions>
  & { readonly options?: object; readonly filterFrom?: string };

/** The facts that are fixed when a study begins. */
export interface StudyFacts {
  readonly name: string;
  /** The conditions that all its numbers depend on. */
  readonly conditions: StudyConditions;
  /** SHA-256 of the conditions. */
  readonly runDigest: string;
  readonly flags: StudyFlags;
  /** The command whose study it is; left out: sweep. */
  readonly command?: string | undefined;
}

export interface ProposedTrial {
  /** Digest of the options that have an effect; a study holds each once. */
  readonly digest: string;
  readonly options: OptionsRecord;
}

/** A sampler's proposal: a trial, or a point that cannot be one. */
export interface Proposal {
  readonly point: Point;
  /** Digest of its options; null where they cannot be run. */
  readonly digest: string | null;
  readonly error: string | null;
}

/** A trial that a worker has taken, and that is no other's while its lease runs. */
export interface ClaimedTrial extends ProposedTrial {
  /** Its number in the study, from 1. */
  readonly number: number;
  /** How often it was taken, this time included. */
  readonly attempt: number;
  readonly owner: string;
}

export interface StoredTrial extends ProposedTrial {
  readonly number: number;
  readonly state: TrialState;
  readonly attempt: number;
  readonly owner: string | null;
  readonly error: string | null;
}

/** A loss of one chunk, mean over its units, and the full model's. */
export interface ChunkValue {
  readonly chunk: number;
  readonly loss: number;
  readonly denseLoss: number;
}

export type StoredRecord = Trial | StoppedTrial;

/** A unit of work that is no trial: its content, or its bytes. */
export interface StoredUnit<R = unknown> {
  readonly kind: string;
  readonly key: string;
  readonly record: R;
}

/** The stored record of a job whose results are units. */
export interface EndedJob {
  readonly trial: string;
  readonly timeMs: number;
}

/** A finished trial and its place in the order in which they ended. */
export interface StoredResult<T extends StoredRecord = Trial> {
  readonly sequence: number;
  readonly record: T;
}

export interface StoredWorker {
  readonly owner: string;
  /** When it was last heard of, ms since 1970. */
  readonly seenMs: number;
  readonly finished: number;
  readonly trial: number | null;
}

export interface HeldTrial {
  readonly number: number;
  readonly owner: string;
  /** When its lease runs out, ms since 1970 by that worker's clock. */
  readonly untilMs: number;
  /** When the worker was last heard of, likewise. */
  readonly seenMs: number;
}

/** Settings of a study, each one JSON. */
export interface Settings extends StudyFacts {
  /** When the study began, ISO 8601. */
  readonly began: string;
  /** The full model's result, of the worker that had it first. */
  readonly dense: DenseTaskResult;
  /** Where that was measured. */
  readonly environment: Environment;
  /** The search whose proposals workers make and run; none where all trials are listed. */
  readonly search: SearchRequest;
  /** A search whose proposals are all listed as trials from the start. */
  readonly listed: SearchRequest;
  /** The race that workers hold among the trials, if one is. */
  readonly race: RaceRequest;
  /** The name of the study's trials in a queue, where they were sent to one. */
  readonly queued: string;
}

/** The finished records of earlier runs, and the place for the next one. */
export interface FinishedRuns<T> {
  /** The finished records of earlier runs, in their order. */
  readonly finished: readonly T[];
  /** Keeps records; they are safe when this returns. */
  append(...records: readonly T[]): void;
}
