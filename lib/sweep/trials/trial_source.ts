/** Where a sweep's trials come from and go to: a study, in memory or on disk, where several processes may work on it. */
import type { DenseTaskResult, TaskTypes } from "../../eval/task.ts";
import {
  OPTION_NAMES,
  type OptionsRecord,
  readRecord,
  recordOptions,
  type ResolvedOptions,
} from "../../methods/options.ts";
import { digestConditions, digestTrialOptions } from "./digest.ts";
import type { Search } from "./search.ts";
import { StudyStore } from "./store.ts";
import type {
  ChunkValue,
  ClaimedTrial,
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

export interface TrialSource<T extends TaskTypes = TaskTypes> {
  readonly total: number;
  /** The next trial; undefined where there is none to be had now. */
  take(): TakenTrial | undefined | Promise<TakenTrial | undefined>;
  /** Makes a trial of a search that proposes them one after the other. @returns Whether it made a proposal. */
  propose(): Promise<boolean>;
  /** Whether none is left, with anybody. */
  isOver(): boolean;
  /** Takes the dense model's result, before the first trial. */
  begin(dense: DenseTaskResult): void;
  /** Takes the losses of one chunk of a trial, one a scored unit, and the dense model's. */
  report(digest: string, chunk: number, losses: Float64Array, denseLosses: Float64Array): void;
  /** Takes a trial's result; it is safe when this returns. */
  finish(digest: string, trial: Trial<T>): void;
  /** Takes what is known of a trial that a race has stopped. */
  stop(digest: string, trial: StoppedTrial): void;
  /** Those that were stopped, in an earlier run too. */
  stopped(): readonly StoppedTrial[];
  /** Takes a trial back that will not be finished. */
  drop(digest: string): void;
  /** All that are finished, in the order of the trials. */
  finished(): readonly Trial<T>[];
  /** Those that ended since this was last called, with anybody, in the order in which they did. */
  news(): readonly (Trial<T> | StoppedTrial)[];
}

export async function proposeTrials(methods: readonly ResolvedOptions[]): Promise<ProposedTrial[]> {
  return await Promise.all(
    methods.map(async (method) => ({
      digest: await digestTrialOptions(method),
      options: recordOptions(method),
    })),
  );
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

/** Keeps trials that have ended by their digest, and in the order in which they did. */
class Ended<T extends TaskTypes> {
  readonly finished = new Map<string, Trial<T>>();
  readonly stopped = new Map<string, StoppedTrial>();
  readonly #order: readonly string[] | undefined;
  #news: (Trial<T> | StoppedTrial)[] = [];

  /** @param order that of the lists; where left out, that in which the trials end */
  constructor(order?: readonly string[]) {
    this.#order = order;
  }

  add(trial: Trial<T> | StoppedTrial): void {
    if (!this.has(trial.trial)) this.#news.push(trial);
    if ("stopped" in trial) this.stopped.set(trial.trial, trial);
    else this.finished.set(trial.trial, trial);
  }

  has(digest: string): boolean {
    return this.finished.has(digest) || this.stopped.has(digest);
  }

  list<R>(trials: ReadonlyMap<string, R>): R[] {
    return this.#order?.flatMap((digest) => trials.get(digest) ?? []) ?? [...trials.values()];
  }

  takeNews(): (Trial<T> | StoppedTrial)[] {
    const news = this.#news;
    this.#news = [];
    return news;
  }
}

/** Methods one after the other, by a study that is in memory alone. */
export async function listedTrials<T extends TaskTypes>(
  methods: readonly ResolvedOptions[],
  conditions: StudyConditions,
): Promise<TrialSource<T>> {
  const runDigest = await digestConditions(conditions), trials = await proposeTrials(methods);
  const store = StudyStore.create(":memory:", { name: "", conditions, runDigest, flags: {} });
  store.add(trials);
  return storedTrials(store, { owner: "here", only: trials.map(({ digest }) => digest) });
}

/** Shortest lease, ms: a worker that is not heard of for so long, and whose process cannot be asked for, has lost its trial. */
export const LEASE_MS = 30_000;

/** A lease is so many times the longest wait between two chunks. */
const LEASE_CHUNKS = 20;

/** What a worker looks at beside the study. */
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

export function storedTrials<T extends TaskTypes>(
  store: StudyStore,
  { owner, isDead = () => false, only, search }: StoredOptions<T>,
): TrialSource<T> {
  const wanted = only && new Set(only), ended = new Ended<T>(only);
  let claim: ClaimedTrial | undefined, sequence = 0, values: ChunkValue[] = [];
  let lastMs = performance.now(), longestMs = 0;
  const lease = () => Math.max(LEASE_MS, LEASE_CHUNKS * longestMs);
  /** Takes note of the time that a chunk took. */
  const tick = () => {
    const now = performance.now();
    longestMs = Math.max(longestMs, now - lastMs);
    lastMs = now;
  };
  const look = () => {
    for (const { sequence: at, record } of store.results<Trial<T> | StoppedTrial>(sequence)) {
      sequence = at;
      if (wanted?.has(record.trial) ?? true) ended.add(record);
    }
  };
  const mean = (losses: Float64Array) => losses.reduce((a, b) => a + b, 0) / losses.length;
  const releaseDead = () => {
    for (const other of store.owners()) {
      if (other !== owner && isDead(other)) store.release(other);
    }
  };
  const propose = async () => {
    look();
    return await search?.proposeIn(store, ended.finished, ended.stopped) ?? false;
  };
  releaseDead();
  look();
  return {
    propose,
    total: search?.request.trials ?? only?.length ?? Object.values(store.count()).reduce((a, b) => a + b),
    begin(dense) {
      if (store.get("dense") === undefined) store.set("dense", dense);
    },
    async take() {
      for (;;) {
        claim = store.claim(owner, lease());
        if (claim !== undefined) break;
        releaseDead();
        if (!await propose()) break;
      }
      values = [];
      lastMs = performance.now();
      return claim && { digest: claim.digest, method: readRecord(claim.options) };
    },
    isOver() {
      const { waiting, running } = store.count();
      return waiting + running === 0 && (search?.isOver ?? true);
    },
    report(_, chunk, losses, denseLosses) {
      tick();
      values.push({ chunk, loss: mean(losses), denseLoss: mean(denseLosses) });
      store.report(claim!, values, lease());
      values = [];
    },
    finish(_, trial) {
      store.finish(claim!, trial as Trial);
      claim = undefined;
    },
    stop(_, trial) {
      store.finish(claim!, trial, "pruned");
      claim = undefined;
    },
    stopped() {
      look();
      return ended.list(ended.stopped);
    },
    drop() {
      if (claim !== undefined) store.release(owner);
      claim = undefined;
    },
    finished() {
      look();
      search?.look(store);
      return ended.list(ended.finished);
    },
    news() {
      look();
      return ended.takeNews();
    },
  };
}

/** A source that gives no trial any more once a time is over, but for the first; the one at work is finished. */
export function withBudget<S extends TrialSource>(
  source: S,
  budgetMs: number,
  now: () => number = () => performance.now(),
): S & { readonly ranOut: () => boolean } {
  const end = now() + budgetMs, isSpent = () => now() >= end;
  let isFirst = true;
  return {
    ...source,
    ranOut: () => isSpent() && !source.isOver(),
    take() {
      if (!isFirst && isSpent()) return undefined;
      isFirst = false;
      return source.take();
    },
    isOver: () => source.isOver() || (!isFirst && isSpent()),
  };
}
