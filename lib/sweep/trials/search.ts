/** Searches: trials that a sampler proposes, in a list in advance or one after the other. */
import {
  ratioMiss,
  readRecord,
  recordOptions,
  type ResolvedOptions,
  resolveOptions,
} from "../../methods/bind/options.ts";
import { sayNearest } from "../../nearest.ts";
import type { Observation, Point } from "../../search/axis.ts";
import { hypervolume } from "../../search/hypervolume.ts";
import { pedAnova } from "../../search/ped_anova.ts";
import { type Sampler, SAMPLERS } from "../../search/sampler.ts";
import { BUDGET_NAMES, BUDGETS } from "../budgets.ts";
import { excessLoss } from "../importance.ts";
import { digestTrialOptions } from "./digest.ts";
import type { StudyStore } from "./store.ts";
import type { Proposal } from "./store_records.ts";
import type {
  Limits,
  ObjectiveName,
  SearchOutcome,
  SearchRecord,
  SearchRequest,
  StoppedTrial,
  Trial,
} from "../trial.ts";

export const OBJECTIVE_NAMES: readonly ObjectiveName[] = ["loss", ...BUDGET_NAMES];

/** A name of an objective. @throws {RangeError} If it is none. */
export function readObjective(name: string): ObjectiveName {
  const plain = name.replaceAll(/-(\w)/g, (_, letter: string) => letter.toUpperCase());
  const found = OBJECTIVE_NAMES.find((objective) => objective === plain);
  if (found !== undefined) return found;
  throw new RangeError(
    `Cannot use objective "${name}": expected some of ${OBJECTIVE_NAMES.join(", ")}${
      sayNearest(name, OBJECTIVE_NAMES)
    }`,
  );
}

/** An objective's value of a finished trial, to be low. */
function objectiveOf(name: ObjectiveName, trial: Trial): number {
  return name === "loss" ? excessLoss(trial) : BUDGETS[name].retained(trial);
}

/**
 * A finished trial as an observation of samplers. It violates the constraints by its excess over the limits, and by
 * more than two points between achieved and requested ratio: such a trial is in no ranking.
 */
export function observeTrial(
  point: Point,
  trial: Trial,
  objectives: readonly ObjectiveName[],
  limits: Limits,
): Observation {
  const over = Object.entries(limits).map(([name, most]) =>
    Math.max(0, objectiveOf(name as ObjectiveName, trial) - most)
  );
  return {
    point,
    state: "finished",
    values: objectives.map((name) => objectiveOf(name, trial)),
    violation: over.reduce((a, b) => a + b, ratioMiss(readRecord(trial), trial.achievedRatio)),
  };
}

type Proposed = Proposal & { readonly method?: ResolvedOptions };

/** A search under way: it makes proposals, and passes their results to the sampler. */
export class Search<T extends Trial = Trial> {
  readonly #proposals: Proposal[] = [];
  readonly #propose: Sampler;
  #failed: ReadonlySet<string | null> = new Set();
  #isOver = false;
  readonly request: SearchRequest;
  private readonly check: (method: ResolvedOptions) => void;

  /**
   * Prepares a search.
   *
   * @param check Throws a TypeError or RangeError where the model cannot have a method.
   * @throws {RangeError} If the sampler cannot search the space.
   */
  constructor(request: SearchRequest, check: (method: ResolvedOptions) => void = () => {}) {
    this.request = request;
    this.check = check;
    this.#propose = SAMPLERS[request.sampler].create(request.space, request.seed);
  }

  /** Its proposals so far, in order. */
  get proposals(): readonly Proposal[] {
    return this.#proposals;
  }

  get isOver(): boolean {
    return this.#isOver || this.#proposals.length >= this.request.trials;
  }

  get outcome(): SearchOutcome {
    const refused = this.#proposals.filter(({ digest }) => digest === null), [first] = refused;
    const proposed = this.#proposals.length, different = new Set(this.#proposals.map(({ digest }) => digest));
    return {
      proposed,
      repeated: proposed - refused.length - (different.size - Number(different.has(null))),
      refused: refused.length,
      ...(first && { firstRefused: first.error! }),
    };
  }

  /** The proposals as samplers see them: those that no result is known of are at work. */
  observe(finished: ReadonlyMap<string, T>, stopped: ReadonlyMap<string, StoppedTrial>): Observation[] {
    const { objectives, limits } = this.request;
    return this.#proposals.map(({ point, digest }): Observation => {
      const trial = finished.get(digest ?? ""), early = stopped.get(digest ?? "");
      if (trial !== undefined) return observeTrial(point, trial, objectives, limits);
      if (early !== undefined) {
        const values = [early.partialDelta];
        return { point, state: "stopped", values, violation: 0, step: early.chunkLosses.length };
      }
      if (digest !== null && !this.#failed.has(digest)) {
        return { point, state: "running", values: [], violation: 0 };
      }
      // A point that cannot be a trial has an infinite violation.
      return { point, state: "finished", values: objectives.map(() => Infinity), violation: Infinity };
    });
  }

  /** The next proposal; undefined after the last one. */
  #next(observations: readonly Observation[]): Proposed | undefined {
    const point = this.isOver ? undefined : this.#propose(observations);
    this.#isOver ||= point === undefined;
    if (point === undefined) return undefined;
    try {
      const method = resolveOptions(point);
      this.check(method);
      return { point, digest: digestTrialOptions(method), error: null, method };
    } catch (error) {
      if (!(error instanceof RangeError || error instanceof TypeError)) throw error;
      return { point, digest: null, error: error.message };
    }
  }

  /** Reads the proposals in a study, by this process or another one. */
  look(store: StudyStore): void {
    this.#proposals.push(...store.proposals(this.#proposals.length));
    this.#failed = new Set(store.digests("failed"));
  }

  /**
   * Makes the next proposal in a study from the results so far; where another process is faster, takes that one's.
   *
   * @returns False after the last one.
   * @throws {RangeError} If all have been made and none can be run.
   */
  proposeIn(
    store: StudyStore,
    finished: ReadonlyMap<string, T>,
    stopped: ReadonlyMap<string, StoppedTrial>,
  ): boolean {
    this.look(store);
    const next = this.#next(this.observe(finished, stopped));
    if (next === undefined) {
      const { proposed, refused, firstRefused } = this.outcome;
      if (refused === proposed) throw new RangeError(firstRefused);
      return false;
    }
    const options = next.method && recordOptions(next.method);
    store.propose(this.request, this.#proposals.length, next, options);
    this.look(store);
    return true;
  }

  /**
   * All proposals of a sampler that needs no results, each once.
   *
   * @throws {RangeError} If none of them can be run.
   */
  list(): ResolvedOptions[] {
    const methods = new Map<string, ResolvedOptions>(), blank: Observation[] = [];
    for (let next; (next = this.#next(blank)) !== undefined;) {
      blank.push({ point: {}, state: "running", values: [], violation: 0 });
      this.#proposals.push(next);
      if (next.method && !methods.has(next.digest!)) methods.set(next.digest!, next.method);
    }
    if (methods.size === 0) throw new RangeError(this.outcome.firstRefused);
    return [...methods.values()];
  }

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
