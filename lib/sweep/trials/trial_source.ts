/** Where a sweep's trials come from and go to: a study, in memory or on disk, where several processes may work on it. */
import type { DenseTaskResult, TaskTypes } from "../../eval/task.ts";
import { mean } from "../../math/mean.ts";
import { OPTION_NAMES } from "../../methods/bind/option_table.ts";
import {
  type OptionsRecord,
  readRecord,
  recordOptions,
  type ResolvedOptions,
} from "../../methods/bind/options.ts";
import { digestConditions, digestTrialOptions } from "./digest.ts";
import type { Search } from "./search.ts";
import { StudyStore } from "./store.ts";
import type {
  ChunkValue,
  ClaimedTrial,
  EndedJob,
  HeldTrial,
  ProposedTrial,
  StoredRecord,
  StudyConditions,
} from "./store_records.ts";
import type { StoppedTrial, Trial } from "../trial.ts";

export interface TakenTrial {
  /** Digest of the options that have an effect. */
  readonly digest: string;
  readonly method: ResolvedOptions;
}

/** Where a sweep takes trials from, and gives their results to. */
export type TrialSource<T extends TaskTypes = TaskTypes> = Pick<StudyTrials<T>, keyof StudyTrials<T>>;

export function proposeTrials(methods: readonly ResolvedOptions[]): ProposedTrial[] {
  return methods.map((method) => ({ digest: digestTrialOptions(method), options: recordOptions(method) }));
}

/** Trials that have ended as a study takes them in. */
export function finishedTrials<T extends StoredRecord>(
  records: readonly T[],
): (ProposedTrial & { readonly record: T })[] {
  return records.map((record) => {
    const options = Object.entries(record).filter(([name]) => OPTION_NAMES.includes(name));
    return { digest: record.trial, options: Object.fromEntries(options) as unknown as OptionsRecord, record };
  });
}

/** Methods one after the other, by a study that is in only memory. */
export async function listedTrials<T extends TaskTypes>(
  methods: readonly ResolvedOptions[],
  conditions: StudyConditions,
  budget: TrialBudget = {},
): Promise<StudyTrials<T>> {
  const runDigest = await digestConditions(conditions), trials = proposeTrials(methods);
  const store = StudyStore.create(":memory:", { name: "", conditions, runDigest, flags: {} });
  store.add(trials);
  return new StudyTrials(store, { owner: "here", only: trials.map(({ digest }) => digest), ...budget });
}

/** Shortest lease, ms: a worker that is not heard of for so long, and whose process cannot be asked for, has lost its trial. */
export const LEASE_MS = 30_000;

/** A lease is this multiple of the longest wait between two chunks. */
const LEASE_CHUNKS = 20;

/** Thrown when another worker has taken a trial meanwhile: nothing more is to be done on it. */
export class TrialLostError extends Error {}

/** A trial is reported after this number of ms without a sign of its worker. */
const SILENT_MS = 10_000;

/** How long trials are given. */
interface TrialBudget {
  /** No trial but the first is given after this number of ms; the one at work is finished. Default: no limit. */
  readonly budgetMs?: number;
  /** The clock, ms; default: `performance.now`. */
  readonly now?: () => number;
}

/** The options of a worker besides the study. */
interface StoredOptions<T extends TaskTypes = TaskTypes> extends TrialBudget {
  /** Its name: no other's. */
  readonly owner: string;
  /** Finds out which owners' processes have ended: their trials wait again at once. */
  readonly isDead?: (owner: string) => boolean;
  /** Digests of the trials that count, in their order; default: all of the study, in the order of their ends. */
  readonly only?: readonly string[];
  /** The search that the study has begun, which makes a trial where none waits. */
  readonly search?: Search<Trial<T>>;
  /** Shortest lease, ms; default: {@linkcode LEASE_MS}. */
  readonly leaseMs?: number;
}

/** The trials of a study, one of which is this worker's at a time. */
export class StudyTrials<T extends TaskTypes = TaskTypes> {
  /** Trials that the study or the search will have. */
  readonly total: number;
  readonly #store: StudyStore;
  readonly #owner: string;
  readonly #isDead: (owner: string) => boolean;
  readonly #only: readonly string[] | undefined;
  readonly #wanted: ReadonlySet<string> | undefined;
  readonly #search: Search<Trial<T>> | undefined;
  readonly #now: () => number;
  readonly #endMs: number;
  readonly #shortestMs: number;
  readonly #finished = new Map<string, Trial<T>>();
  readonly #stopped = new Map<string, StoppedTrial>();
  #claim: ClaimedTrial | undefined;
  /** Results of the study up to this one were read. */
  #sequence = 0;
  #news: (Trial<T> | StoppedTrial)[] = [];
  #hasGiven = false;
  #lastReportMs = performance.now();
  #longestWaitMs = 0;

  constructor(store: StudyStore, options: StoredOptions<T>) {
    const { owner, isDead = () => false, only, search, budgetMs = Infinity, leaseMs = LEASE_MS } = options;
    this.#store = store;
    this.#owner = owner;
    this.#isDead = isDead;
    this.#only = only;
    this.#wanted = only && new Set(only);
    this.#search = search;
    this.#now = options.now ?? (() => performance.now());
    this.#endMs = this.#now() + budgetMs;
    this.#shortestMs = leaseMs;
    this.total = search?.request.trials ?? only?.length ??
      Object.values(store.count()).reduce((a, b) => a + b);
    this.#releaseDead();
    this.#read();
  }

  /** Makes a trial of a search that proposes them one after the other. @returns Whether it made a proposal. */
  propose(): boolean {
    this.#read();
    return this.#search?.proposeIn(this.#store, this.#finished, this.#stopped) ?? false;
  }

  /** Takes the full model's result, before the first trial. */
  begin(dense: DenseTaskResult): void {
    if (this.#store.get("dense") === undefined) this.#store.set("dense", dense);
  }

  /** The next trial, or a promise of it; undefined where there is none to be had now. */
  take(): TakenTrial | undefined | Promise<TakenTrial | undefined> {
    if (this.#isSpent()) return undefined;
    this.#hasGiven = true;
    for (;;) {
      this.#claim = this.#store.claim(this.#owner, this.#leaseMs());
      if (this.#claim !== undefined) break;
      this.#releaseDead();
      if (!this.propose()) break;
    }
    this.#lastReportMs = performance.now();
    return this.#claim && { digest: this.#claim.digest, method: readRecord(this.#claim.options) };
  }

  /** Whether no trial is left, at any worker, or the time is over. */
  isOver(): boolean {
    return this.#isSpent() || this.#isDone();
  }

  /** Whether the time is over, and trials are left. */
  ranOut(): boolean {
    return this.#now() >= this.#endMs && !this.#isDone();
  }

  /** Trials of others whose workers have given no sign for a while, by their own clocks or by this one. */
  silent(): readonly HeldTrial[] {
    const now = Date.now();
    return this.#store.held().filter((held) =>
      held.owner !== this.#owner && Math.abs(now - held.seenMs) > SILENT_MS
    );
  }

  /**
   * Takes the losses of one chunk of the trial, one a scored unit, and the full model's.
   *
   * @throws {TrialLostError} If the trial is another worker's by now.
   */
  report(chunk: number, losses: Float64Array, denseLosses: Float64Array): void {
    const now = performance.now();
    this.#longestWaitMs = Math.max(this.#longestWaitMs, now - this.#lastReportMs);
    this.#lastReportMs = now;
    this.renew({ chunk, loss: mean(losses), denseLoss: mean(denseLosses) });
  }

  /**
   * Renews the lease of the trial, and keeps values of its chunks.
   *
   * @throws {TrialLostError} If the trial is another worker's by now.
   */
  renew(...values: readonly ChunkValue[]): void {
    if (this.#store.report(this.#claim!, values, this.#leaseMs())) return;
    this.#claim = undefined;
    throw new TrialLostError("Cannot go on with a trial: another worker has it");
  }

  /** Takes the trial's result, or its record if the race has stopped it; it is safe when this returns. */
  finish(trial: Trial<T> | StoppedTrial | EndedJob): void {
    this.#store.finish(this.#claim!, trial as StoredRecord);
    this.#claim = undefined;
  }

  /** Gives the trial back that will not be finished. */
  drop(): void {
    if (this.#claim !== undefined) this.#store.release(this.#owner);
    this.#claim = undefined;
  }

  /** Those that were stopped, in an earlier run too. */
  stopped(): readonly StoppedTrial[] {
    this.#read();
    return this.#inOrder(this.#stopped);
  }

  /** All that are finished, in the order of the trials. */
  finished(): readonly Trial<T>[] {
    this.#read();
    this.#search?.look(this.#store);
    return this.#inOrder(this.#finished);
  }

  /** Those that ended at any worker since the last call, in the order in which they ended. */
  news(): readonly (Trial<T> | StoppedTrial)[] {
    this.#read();
    const news = this.#news;
    this.#news = [];
    return news;
  }

  /** Reads the results that the study has got since the last time. */
  #read(): void {
    for (const { sequence, record } of this.#store.results<Trial<T> | StoppedTrial>(this.#sequence)) {
      this.#sequence = sequence;
      if (this.#wanted?.has(record.trial) === false) continue;
      this.#news.push(record);
      if ("stopped" in record) this.#stopped.set(record.trial, record);
      else this.#finished.set(record.trial, record);
    }
  }

  #inOrder<R>(trials: ReadonlyMap<string, R>): R[] {
    return this.#only?.flatMap((digest) => trials.get(digest) ?? []) ?? [...trials.values()];
  }

  #releaseDead(): void {
    for (const other of this.#store.owners()) {
      if (other !== this.#owner && this.#isDead(other)) this.#store.release(other);
    }
  }

  #isDone(): boolean {
    const { waiting, running } = this.#store.count();
    return waiting + running === 0 && (this.#search?.isOver ?? true);
  }

  #isSpent(): boolean {
    return this.#hasGiven && this.#now() >= this.#endMs;
  }

  #leaseMs(): number {
    return Math.max(this.#shortestMs, LEASE_CHUNKS * this.#longestWaitMs);
  }
}
