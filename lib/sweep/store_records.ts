/** What a study on disk holds. */
import type { RunConditions } from "../environment.ts";
import type { OptionsRecord } from "../methods/options.ts";
import type { Point } from "../search/axis.ts";
import type { Trial } from "./trial.ts";
import type { StoppedTrial } from "./trial_race.ts";

/** What becomes of a trial: it waits, one worker runs it, and it ends in one of three ways, `pruned` = stopped early. */
export type TrialState = "waiting" | "running" | "complete" | "pruned" | "failed";

/** The states, in the order of tables. */
export const TRIAL_STATES: readonly TrialState[] = ["waiting", "running", "complete", "pruned", "failed"];

/** How to run a study's trials again, on this machine or another one: what the flags said. */
export interface StudyFlags {
  /** Flags by name, each with its text; paths are absolute. */
  readonly [flag: string]: string;
}

/** What is fixed when a study begins. */
export interface StudyFacts {
  /** What to call it. */
  readonly name: string;
  /** What all its numbers depend on. */
  readonly conditions: RunConditions;
  /** SHA-256 of the conditions. */
  readonly runDigest: string;
  /** The flags that say what runs. */
  readonly flags: StudyFlags;
}

/** A trial that is to be run. */
export interface ProposedTrial {
  /** Digest of the options that have an effect; a study holds each once. */
  readonly digest: string;
  /** All options. */
  readonly options: OptionsRecord;
}

/** What a sampler has proposed: a trial, or what cannot be one. */
export interface Proposal {
  readonly point: Point;
  /** Digest of its options; null where they cannot be run. */
  readonly digest: string | null;
  /** Why they cannot be. */
  readonly error: string | null;
}

/** A trial that a worker has taken, and that is no other's while its lease runs. */
export interface ClaimedTrial extends ProposedTrial {
  /** Its number in the study, from 1. */
  readonly number: number;
  /** How often it was taken, this time included. */
  readonly attempt: number;
  /** Who has it. */
  readonly owner: string;
}

/** A trial as it stands. */
export interface StoredTrial extends ProposedTrial {
  readonly number: number;
  readonly state: TrialState;
  readonly attempt: number;
  readonly owner: string | null;
  readonly error: string | null;
}

/** A loss of one chunk, mean over its units, and the dense model's. */
export interface ChunkValue {
  readonly chunk: number;
  readonly loss: number;
  readonly denseLoss: number;
}

/** What is kept of a trial that has ended. */
export type StoredRecord = Trial | StoppedTrial;

/** A finished trial and its place in the order in which they ended. */
export interface StoredResult<T extends StoredRecord = Trial> {
  readonly sequence: number;
  readonly record: T;
}

/** A worker as it last said. */
export interface StoredWorker {
  readonly owner: string;
  /** When it was last heard of, ms since 1970. */
  readonly seenMs: number;
  /** Trials that it has finished. */
  readonly finished: number;
  /** The trial that it is at. */
  readonly trial: number | null;
}
