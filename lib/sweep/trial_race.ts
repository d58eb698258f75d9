/** Trials that a race stopped: what is kept of them, apart from the finished ones, and how trials of a race are compared. */
import { looksAhead, type OptionsRecord, readRecord, type ResolvedOptions } from "../methods/options.ts";
import { filtersQueries } from "../methods/sides.ts";
import { type RaceName, RACES, type Rival } from "../search/race.ts";
import { RandomStream } from "../search/random_stream.ts";
import type { BlockSums } from "../stats/paired.ts";
import { FIELD, type Fields } from "./fields.ts";
import type { LineKind } from "./run_log.ts";
import { missesAsked } from "./summary.ts";
import type { Trial, TrialFacts } from "./trial.ts";

/** @internal A trial that was stopped before it had read all chunks. It has no results: its losses are of some chunks alone. */
export type StoppedTrial = OptionsRecord & Omit<TrialFacts, "finishedAt"> & {
  /** Why it was stopped. */
  readonly stopped: string;
  /** Mean loss of each chunk that it read, in the race's order, to eight digits. */
  readonly chunkLosses: readonly number[];
  /** Chunks that a finished trial reads. */
  readonly chunks: number;
  /** Mean of its losses above the dense model's on the same chunks. */
  readonly partialDelta: number;
  /** When it was stopped, ISO 8601. */
  readonly stoppedAt: string;
};

/** Fields of a stopped trial. */
export const STOPPED_FIELDS: Fields = {
  trial: FIELD.text,
  fusion: FIELD.text,
  stopped: FIELD.text,
  chunkLosses: FIELD.numbers,
  chunks: FIELD.number,
  partialDelta: FIELD.number,
};

/** Lines of a log of stopped trials. */
export const stoppedLines: LineKind<StoppedTrial> = {
  noun: "stopped trial",
  fields: STOPPED_FIELDS as LineKind<StoppedTrial>["fields"],
};

/** Trials can be compared where this is the same: the share asked for, in whole percent, of queries or of keys and values. */
export function raceGroup(options: ResolvedOptions): string {
  const side = filtersQueries(options) ? "queries" : "keys";
  const asked = side === "queries" ? options.pruneRatio : options.kvRatio;
  return `${side} ${Math.round(100 * asked)} ${looksAhead(options)}`;
}

/** Mean losses of chunks from a record's blocks, which do not cross chunks. */
export function chunkMeans({ sums, sizes }: BlockSums, chunks: number): number[] {
  const blocks = sums.length / chunks;
  return Array.from({ length: chunks }, (_, chunk) => {
    const own = (values: readonly number[]) =>
      values.slice(chunk * blocks, (chunk + 1) * blocks).reduce((a, b) => a + b, 0);
    return own(sums) / own(sizes);
  });
}

/** Which race is held. */
export interface RaceRequest {
  /** Who is stopped when. */
  readonly kind: RaceName;
  /** Seed of the order of chunks. */
  readonly seed: number;
}

/** @internal How a race went. */
export interface RaceRecord extends RaceRequest {
  /** The order in which every trial read the chunks. */
  readonly order: readonly number[];
  /** Chunks that were read. */
  readonly read: number;
  /** Chunks that all trials would have read. */
  readonly of: number;
}

/** A race of the trials of a sweep: the order in which chunks are read, who is compared with whom, and who is stopped. */
export class TrialRace {
  readonly #kind: RaceName;
  readonly #seed: number;
  readonly #rivals = new Map<string, Map<string, Rival>>();
  readonly #known = new Set<string>();
  #order: readonly number[] = [];
  #read = 0;
  #of = 0;

  /**
   * Prepares a race.
   *
   * @param seed Of the order of chunks.
   */
  constructor(kind: RaceName, seed: number) {
    this.#kind = kind;
    this.#seed = seed;
  }

  /** The order in which every trial reads so many chunks. */
  order(chunks: number): readonly number[] {
    if (this.#order.length !== chunks) this.#order = new RandomStream(this.#seed, 0).shuffle(chunks);
    return this.#order;
  }

  /** Which race it is. */
  get request(): RaceRequest {
    return { kind: this.#kind, seed: this.#seed };
  }

  /** How it has gone so far. */
  get record(): RaceRecord {
    return { ...this.request, order: this.#order, read: this.#read, of: this.#of };
  }

  /** Takes a trial in that is finished or was stopped: now, in an earlier run, or by another process. */
  add(trial: Trial | StoppedTrial, chunks: number): void {
    if (this.#known.has(trial.trial)) return;
    this.#known.add(trial.trial);
    const isFinished = !("stopped" in trial), order = this.order(chunks);
    const means = isFinished ? chunkMeans(trial.lossBlocks, chunks) : [];
    const losses = isFinished ? order.map((chunk) => means[chunk]!) : trial.chunkLosses;
    this.#read += losses.length;
    this.#of += chunks;
    // Who skipped less than asked may well be ahead, and is held against nobody.
    if (isFinished && missesAsked(trial)) return;
    this.#groupOf(readRecord(trial)).set(trial.trial, { losses, isFinished });
  }

  #groupOf(options: ResolvedOptions): Map<string, Rival> {
    const key = raceGroup(options), group = this.#rivals.get(key) ?? new Map<string, Rival>();
    this.#rivals.set(key, group);
    return group;
  }

  /** Lets a trial run, which reads so many chunks at most. It is held against trials that end meanwhile, too. */
  enter(options: ResolvedOptions, chunks: number): RacingTrial {
    const rivals = this.#groupOf(options), stop = new AbortController();
    const losses: number[] = [], race = RACES[this.#kind];
    let behind = 0, stopped = "";
    return {
      order: this.order(chunks),
      signal: stop.signal,
      report(own, dense) {
        losses.push(Number(mean(own).toPrecision(8)));
        behind += mean(own) - mean(dense);
        const why = losses.length < chunks ? race.shouldStop(losses, [...rivals.values()], chunks) : null;
        if (why === null) return;
        stopped = why;
        stop.abort(new Error(why));
      },
      describe: () => ({ stopped, chunkLosses: losses, chunks, partialDelta: behind / losses.length }),
    };
  }
}

const mean = (losses: Float64Array) => losses.reduce((a, b) => a + b, 0) / losses.length;

/** A trial at work in a race. */
export interface RacingTrial {
  /** The order in which it reads the chunks. */
  readonly order: readonly number[];
  /** Aborted where it is stopped. */
  readonly signal: AbortSignal;
  /** Takes the losses of the next chunk, and the dense model's. */
  report(losses: Float64Array, denseLosses: Float64Array): void;
  /** What is kept of it once it is stopped. */
  describe(): Pick<StoppedTrial, "stopped" | "chunkLosses" | "chunks" | "partialDelta">;
}
