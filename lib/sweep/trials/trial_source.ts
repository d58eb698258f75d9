/** Where a sweep's trials come from and go to: a study, in memory or on disk, where several processes may work on it. */
import type { DenseTaskResult, TaskTypes } from "../../eval/task.ts";
import { mean } from "../../math/mean.ts";
import {
  OPTION_NAMES,
  type OptionsRecord,
  readRecord,
  recordOptions,
  type ResolvedOptions,
} from "../../methods/bind/options.ts";
import { digestConditions, digestTrialOptions } from "./digest.ts";
import type { Search } from "./search.ts";
import { StudyStore } from "./store.ts";
import type {
  ClaimedTrial,
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

export type TrialSource<T extends TaskTypes = TaskTypes> = ReturnType<typeof storedTrials<T>>;

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
): Promise<TrialSource<T>> {
  const runDigest = await digestConditions(conditions), trials = proposeTrials(methods);
  const store = StudyStore.create(":memory:", { name: "", conditions, runDigest, flags: {} });
  store.add(trials);
  return storedTrials(store, { owner: "here", only: trials.map(({ digest }) => digest) });
}

/** Shortest lease, ms: a worker that is not heard of for so long, and whose process cannot be asked for, has lost its trial. */
export const LEASE_MS = 30_000;

/** A lease is this multiple of the longest wait between two chunks. */
const LEASE_CHUNKS = 20;

/** Thrown when another worker has taken a trial meanwhile: nothing more is to be done on it. */
export class TrialLostError extends Error {}

/** A trial is reported after this number of ms without a sign of its worker. */
const SILENT_MS = 10_000;

/** The options of a worker besides the study. */
export interface StoredOptions<T extends TaskTypes = TaskTypes> {
  /** Its name: no other's. */
  readonly owner: string;
  /** Finds out which owners' processes have ended: their trials wait again at once. */
  readonly isDead?: (owner: string) => boolean;
  /** Digests of the trials that count, in their order; default: all of the study, in the order of their ends. */
  readonly only?: readonly string[];
  /** The search that the study has begun, which makes a trial where none waits. */
  readonly search?: Search<Trial<T>>;
}

/** The trials of a study, one of which is this worker's at a time. */
export function storedTrials<T extends TaskTypes>(
  store: StudyStore,
  { owner, isDead = () => false, only, search }: StoredOptions<T>,
) {
  const wanted = only && new Set(only);
  const finished = new Map<string, Trial<T>>(), stopped = new Map<string, StoppedTrial>();
  let claim: ClaimedTrial | undefined, sequence = 0, news: (Trial<T> | StoppedTrial)[] = [];
  let lastMs = performance.now(), longestMs = 0;
  const lease = () => Math.max(LEASE_MS, LEASE_CHUNKS * longestMs);
  const look = () => {
    for (const { sequence: at, record } of store.results<Trial<T> | StoppedTrial>(sequence)) {
      sequence = at;
      if (wanted !== undefined && !wanted.has(record.trial)) continue;
      news.push(record);
      if ("stopped" in record) stopped.set(record.trial, record);
      else finished.set(record.trial, record);
    }
  };
  const inOrder = <R>(trials: ReadonlyMap<string, R>): R[] =>
    only?.flatMap((digest) => trials.get(digest) ?? []) ?? [...trials.values()];
  const releaseDead = () => {
    for (const other of store.owners()) {
      if (other !== owner && isDead(other)) store.release(other);
    }
  };
  const propose = () => {
    look();
    return search?.proposeIn(store, finished, stopped) ?? false;
  };
  releaseDead();
  look();
  return {
    /** Makes a trial of a search that proposes them one after the other. @returns Whether it made a proposal. */
    propose,
    total: search?.request.trials ?? only?.length ?? Object.values(store.count()).reduce((a, b) => a + b),
    /** Takes the full model's result, before the first trial. */
    begin(dense: DenseTaskResult): void {
      if (store.get("dense") === undefined) store.set("dense", dense);
    },
    /** The next trial, or a promise of it; undefined where there is none to be had now. */
    take(): TakenTrial | undefined | Promise<TakenTrial | undefined> {
      for (;;) {
        claim = store.claim(owner, lease());
        if (claim !== undefined) break;
        releaseDead();
        if (!propose()) break;
      }
      lastMs = performance.now();
      return claim && { digest: claim.digest, method: readRecord(claim.options) };
    },
    /** Whether no trial is left, at any worker. */
    isOver(): boolean {
      const { waiting, running } = store.count();
      return waiting + running === 0 && (search?.isOver ?? true);
    },
    /** Trials of others whose workers have given no sign for a while, by their own clocks or by this one. */
    silent(): readonly HeldTrial[] {
      const now = Date.now();
      return store.held().filter((held) => held.owner !== owner && Math.abs(now - held.seenMs) > SILENT_MS);
    },
    /**
     * Takes the losses of one chunk of the trial, one a scored unit, and the full model's.
     *
     * @throws {TrialLostError} If the trial is another worker's by now.
     */
    report(chunk: number, losses: Float64Array, denseLosses: Float64Array): void {
      const now = performance.now();
      longestMs = Math.max(longestMs, now - lastMs);
      lastMs = now;
      const value = { chunk, loss: mean(losses), denseLoss: mean(denseLosses) };
      if (store.report(claim!, [value], lease())) return;
      claim = undefined;
      throw new TrialLostError("Cannot go on with a trial: another worker has it");
    },
    /** Takes the trial's result, or its record if the race has stopped it; it is safe when this returns. */
    finish(trial: Trial<T> | StoppedTrial): void {
      store.finish(claim!, trial as StoredRecord);
      claim = undefined;
    },
    /** Those that were stopped, in an earlier run too. */
    stopped(): readonly StoppedTrial[] {
      look();
      return inOrder(stopped);
    },
    /** Gives the trial back that will not be finished. */
    drop(): void {
      if (claim !== undefined) store.release(owner);
      claim = undefined;
    },
    /** All that are finished, in the order of the trials. */
    finished(): readonly Trial<T>[] {
      look();
      search?.look(store);
      return inOrder(finished);
    },
    /** Those that ended at any worker since the last call, in the order in which they ended. */
    news(): readonly (Trial<T> | StoppedTrial)[] {
      look();
      const told = news;
      news = [];
      return told;
    },
  };
}

/** A source that gives no trial any more once a time is over, but for the first; the one at work is finished. */
export function withBudget<T extends TaskTypes>(
  source: TrialSource<T>,
  budgetMs: number,
  now: () => number = () => performance.now(),
) {
  const end = now() + budgetMs, isSpent = () => now() >= end;
  let isFirst = true;
  return {
    ...source,
    ranOut: () => isSpent() && !source.isOver(),
    async take() {
      if (!isFirst && isSpent()) return undefined;
      isFirst = false;
      return await source.take();
    },
    isOver: () => source.isOver() || (!isFirst && isSpent()),
  };
}
