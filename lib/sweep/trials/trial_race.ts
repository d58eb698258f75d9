/** Trials that a race stopped: their records, apart from the finished ones, and how trials of a race are compared. */
import { mean } from "../../math/mean.ts";
import { nonCausal, readRecord, type ResolvedOptions } from "../../methods/bind/options.ts";
import { filtersQueries } from "../../methods/bind/sides.ts";
import { type OtherTrial, type RaceName, RACES } from "../../search/race.ts";
import { RandomStream } from "../../search/random_stream.ts";
import type { BlockSums } from "../../stats/paired.ts";
import { FIELD, type Fields } from "../fields.ts";
import { missesRequested } from "../summary.ts";
import type { RaceRecord, RaceRequest, StoppedTrial, Trial } from "../trial.ts";

export const STOPPED_FIELDS: Fields = {
  trial: FIELD.text,
  fusion: FIELD.text,
  stopped: FIELD.text,
  chunkLosses: FIELD.numbers,
  chunks: FIELD.number,
  partialDelta: FIELD.number,
};

/** Trials can be compared where this is the same: the requested ratio, in whole percent, of queries or of keys and values. */
export function raceGroup(options: ResolvedOptions): string {
  const side = filtersQueries(options) ? "queries" : "keys";
  const asked = side === "queries" ? options.pruneRatio : options.kvRatio;
  return `${side} ${Math.round(100 * asked)} ${nonCausal(options)}`;
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

/** A race of a sweep's trials: the order in which chunks are read, which trials are compared, and which are stopped. */
export class TrialRace {
  readonly #others = new Map<string, Map<string, OtherTrial>>();
  readonly #known = new Set<string>();
  #order: readonly number[] = [];
  #read = 0;
  #of = 0;
  private readonly kind: RaceName;
  private readonly seed: number;

  /** @param seed Seed of the order of chunks. */
  constructor(kind: RaceName, seed: number) {
    this.kind = kind;
    this.seed = seed;
  }

  /** The order in which every trial reads its chunks. */
  order(chunks: number): readonly number[] {
    if (this.#order.length !== chunks) this.#order = new RandomStream(this.seed, 0).shuffle(chunks);
    return this.#order;
  }

  get request(): RaceRequest {
    return { kind: this.kind, seed: this.seed };
  }

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
    // A trial that skipped less than requested may well have a lower loss, so no other is compared with it.
    if (isFinished && missesRequested(trial)) return;
    this.#groupOf(readRecord(trial)).set(trial.trial, { losses, isFinished });
  }

  #groupOf(options: ResolvedOptions): Map<string, OtherTrial> {
    const key = raceGroup(options), group = this.#others.get(key) ?? new Map<string, OtherTrial>();
    this.#others.set(key, group);
    return group;
  }

  /** Lets a trial run, which reads at most `chunks` chunks. It is compared with trials that end meanwhile, too. */
  enter(options: ResolvedOptions, chunks: number): RacingTrial {
    const others = this.#groupOf(options), stop = new AbortController();
    const losses: number[] = [], shouldStop = RACES[this.kind];
    let behind = 0, stopped = "";
    return {
      order: this.order(chunks),
      signal: stop.signal,
      report(own, dense) {
        losses.push(Number(mean(own).toPrecision(8)));
        behind += mean(own) - mean(dense);
        const why = losses.length < chunks ? shouldStop(losses, [...others.values()], chunks) : null;
        if (why === null) return;
        stopped = why;
        stop.abort(new Error(why));
      },
      describe: () => ({ stopped, chunkLosses: losses, chunks, partialDelta: behind / losses.length }),
    };
  }
}

export interface RacingTrial {
  /** The order in which it reads the chunks. */
  readonly order: readonly number[];
  /** Aborted where it is stopped. */
  readonly signal: AbortSignal;
  /** Takes the losses of the next chunk, and the full model's. */
  report(losses: Float64Array, denseLosses: Float64Array): void;
  describe(): Pick<StoppedTrial, "stopped" | "chunkLosses" | "chunks" | "partialDelta">;
}
