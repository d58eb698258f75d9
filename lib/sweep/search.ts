/** Searches: trials that a sampler proposes, in a list in advance or one after the other. */
import { readRecord, recordOptions, type ResolvedOptions, resolveOptions } from "../methods/options.ts";
import type { Observation, Point, SearchSpace } from "../search/axis.ts";
import { hypervolume } from "../search/hypervolume.ts";
import { pedAnova } from "../search/ped_anova.ts";
import { type SamplerName, SAMPLERS } from "../search/sampler.ts";
import { type Limits, type ObjectiveName, observeTrial } from "./objectives.ts";
import type { FinishedRuns } from "./run_log.ts";
import { digestTrialOptions } from "./runner.ts";
import type { Trial } from "./trial.ts";
import type { StoppedTrial } from "./trial_race.ts";
import type { StudyStore } from "./store.ts";
import { LEASE_MS, type TakenTrial, type TrialSource } from "./trial_source.ts";

/** What is searched, and how. */
export interface SearchRequest {
  /** The axes. */
  readonly space: SearchSpace;
  /** Who proposes. */
  readonly sampler: SamplerName;
  /** Seed of what it draws. */
  readonly seed: number;
  /** Proposals; a grid ends with its last point. */
  readonly trials: number;
  /** What is to be low, first that by which trials are ranked. */
  readonly objectives: readonly ObjectiveName[];
  /** What a trial may have at most. */
  readonly limits: Limits;
}

/** One proposal. */
interface Proposal {
  readonly point: Point;
  /** Digest of its options; undefined where they cannot be. */
  readonly digest?: string;
}

/** What became of a search. */
export interface SearchOutcome {
  /** Proposals, those of trials that were known already too. */
  readonly proposed: number;
  /** Proposals whose options had been proposed before. */
  readonly repeated: number;
  /** Proposals that a method or the model does not define. */
  readonly refused: number;
  /** What was wrong with the first of them. */
  readonly firstRefused?: string;
}

/** The content of `search` in a summary. */
export interface SearchRecord extends SearchRequest, SearchOutcome {
  /** PED-ANOVA importances of the axes for the objectives. */
  readonly importances: { readonly [axis: string]: number };
  /** Of several objectives: what trials within the limits span, to the reference of the dense model: a loss of one unit, and all spent. */
  readonly hypervolume?: number;
}

/** A search under way: it makes proposals, and tells the sampler what came out. */
export class Search<T extends Trial = Trial> {
  readonly request: SearchRequest;
  readonly #proposals: Proposal[] = [];
  readonly #propose: (trials: readonly Observation[]) => Point | undefined;
  readonly #check: (method: ResolvedOptions) => void;
  #repeated = 0;
  #refused: string[] = [];

  /**
   * Prepares a search.
   *
   * @param check Throws a TypeError or RangeError where the model cannot have a method.
   * @throws {RangeError} If the sampler cannot search the space.
   */
  constructor(request: SearchRequest, check: (method: ResolvedOptions) => void = () => {}) {
    const sampler = SAMPLERS[request.sampler].create(request.space, request.seed);
    this.request = request;
    this.#propose = (trials) => sampler.propose(trials);
    this.#check = check;
  }

  /** What came of the proposals so far. */
  get outcome(): SearchOutcome {
    const [firstRefused] = this.#refused;
    return {
      proposed: this.#proposals.length,
      repeated: this.#repeated,
      refused: this.#refused.length,
      ...(firstRefused !== undefined && { firstRefused }),
    };
  }

  /** The proposals as samplers see them. */
  observe(finished: ReadonlyMap<string, T>, stopped: ReadonlyMap<string, StoppedTrial>): Observation[] {
    const { objectives, limits } = this.request;
    return this.#proposals.map(({ point, digest = "" }): Observation => {
      const trial = finished.get(digest), early = stopped.get(digest);
      if (trial !== undefined) return observeTrial(point, trial, objectives, limits);
      if (early !== undefined) {
        const values = [early.partialDelta];
        return { point, state: "stopped", values, violation: 0, step: early.chunkLosses.length };
      }
      // What cannot be is as far from the constraints as can be.
      return { point, state: "finished", values: objectives.map(() => Infinity), violation: Infinity };
    });
  }

  /** The next proposal that can be run and was not made before; undefined after the last one. */
  async next(observe: () => readonly Observation[]): Promise<TakenTrial | undefined> {
    while (this.#proposals.length < this.request.trials) {
      const point = this.#propose(observe());
      if (point === undefined) return undefined;
      let method: ResolvedOptions;
      try {
        method = resolveOptions(point);
        this.#check(method);
      } catch (error) {
        if (!(error instanceof RangeError || error instanceof TypeError)) throw error;
        this.#refused.push(error.message);
        this.#proposals.push({ point });
        continue;
      }
      const digest = await digestTrialOptions(method);
      const isNew = this.#proposals.every((proposal) => proposal.digest !== digest);
      this.#proposals.push({ point, digest });
      if (isNew) return { digest, method };
      this.#repeated++;
    }
  }

  /**
   * All proposals of a sampler that needs no results.
   *
   * @throws {RangeError} If none of them can be run.
   */
  async list(): Promise<ResolvedOptions[]> {
    const methods: ResolvedOptions[] = [], blank: Observation[] = [];
    const observe = () => {
      while (blank.length < this.#proposals.length) {
        blank.push({ point: {}, state: "running", values: [], violation: 0 });
      }
      return blank;
    };
    for (let taken; (taken = await this.next(observe)) !== undefined;) methods.push(taken.method);
    if (methods.length === 0) throw new RangeError(this.#refused[0]);
    return methods;
  }

  /** What a summary says of the search. */
  record(finished: readonly T[], stopped: readonly StoppedTrial[]): SearchRecord {
    const { space, objectives } = this.request;
    const observations = this.observe(
      new Map(finished.map((trial) => [trial.trial, trial])),
      new Map(stopped.map((trial) => [trial.trial, trial])),
    );
    const held = observations.filter(({ state, violation, values }) =>
      state === "finished" && violation === 0 && values.every((value) => value <= 1)
    );
    return {
      ...this.request,
      ...this.outcome,
      importances: pedAnova(
        space.filter((axis) => !("choices" in axis) || axis.choices.length > 1),
        observations,
      ),
      ...(objectives.length > 1 && {
        hypervolume: hypervolume(held.map(({ values }) => values), objectives.map(() => 1)),
      }),
    };
  }
}

/**
 * Trials of a search, each proposed from the results of those before it. What logs hold is not run again: proposals follow from
 * seed and results, so that a search goes on as it would have.
 *
 * @param log Where trials go as they end, and where finished ones are found.
 * @param stopped The same of stopped ones.
 */
export function searchedTrials<T extends Trial>(
  search: Search<T>,
  log: FinishedRuns<T>,
  stopped: FinishedRuns<StoppedTrial>,
): TrialSource & { finished(): readonly T[] } {
  const finished = new Map(log.finished.map((trial) => [trial.trial, trial]));
  const early = new Map(stopped.finished.map((trial) => [trial.trial, trial]));
  const { trials } = search.request;
  let news: T[] = [], isOver = false;
  return {
    total: trials,
    async take() {
      for (;;) {
        const next = await search.next(() => search.observe(finished, early));
        if (next === undefined) {
          const { proposed, refused, firstRefused } = search.outcome;
          if (refused === proposed) throw new RangeError(firstRefused);
          isOver = true;
        }
        if (next === undefined || !(finished.has(next.digest) || early.has(next.digest))) return next;
      }
    },
    isOver: () => isOver,
    finish(digest, trial) {
      log.append(trial as T);
      finished.set(digest, trial as T);
      news.push(trial as T);
    },
    stop(digest, trial) {
      stopped.append(trial);
      early.set(digest, trial);
    },
    stopped: () => [...early.values()],
    finished: () => [...finished.values()],
    news() {
      const told = news;
      news = [];
      return told;
    },
  };
}

/** Logs of finished and of stopped trials that are a study on disk, in which this process works alone. */
export function storedLogs<T extends Trial>(
  store: StudyStore,
  owner: string,
): { readonly log: FinishedRuns<T>; readonly stopped: FinishedRuns<StoppedTrial> } {
  const records = store.results<T | StoppedTrial>().map(({ record }) => record);
  const isStopped = (record: T | StoppedTrial): record is StoppedTrial => "stopped" in record;
  const keep = (record: T | StoppedTrial) => {
    store.propose([{ digest: record.trial, options: recordOptions(readRecord(record)) }]);
    store.finish(store.claim(owner, LEASE_MS)!, record, isStopped(record) ? "pruned" : "complete");
  };
  return {
    log: { finished: records.filter((record) => !isStopped(record)) as T[], append: keep },
    stopped: { finished: records.filter(isStopped), append: keep },
  };
}

/** A source that gives no trial any more once a time is over, but for the first; the one at work is finished. */
export function withBudget<S extends TrialSource>(
  source: S,
  budgetMs: number,
  now: () => number = () => performance.now(),
): S & { readonly ranOut: () => boolean } {
  const end = now() + budgetMs;
  let ranOut = false, isFirst = true;
  return {
    ...source,
    ranOut: () => ranOut,
    take() {
      if (isFirst || now() < end) {
        isFirst = false;
        return source.take();
      }
      ranOut = !source.isOver();
    },
    isOver: () => ranOut || source.isOver(),
  };
}
