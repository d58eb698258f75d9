/** A race of a sweep's trials on many machines: each worker compares its trial with all that have ended. */
import type { Redis } from "ioredis";
import type { ResolvedOptions } from "../../../lib/methods/mod.ts";
import type { Task } from "../../../lib/eval/mod.ts";
import {
  FIELD,
  findWrongField,
  type RaceRequest,
  type RacingTrial,
  STOPPED_FIELDS,
  type StoppedTrial,
  type Trial,
  trialFields,
  TrialRace,
} from "../../../lib/sweep/mod.ts";

export class QueuedRace {
  readonly #race: TrialRace;
  readonly #chunks: number;
  readonly #redis: Redis;
  readonly #key: string;
  #seen = 0;
  #last: Promise<void> = Promise.resolve();

  readonly #task: Task;

  /**
   * Prepares a race.
   *
   * @param chunks Chunks that a finished trial reads.
   * @param key Key of the list with the records of ended trials.
   */
  constructor({ kind, seed }: RaceRequest, chunks: number, redis: Redis, key: string, task: Task) {
    this.#task = task;
    this.#race = new TrialRace(kind, seed);
    this.#chunks = chunks;
    this.#redis = redis;
    this.#key = key;
  }

  /** Adds the records since the last call; calls wait for each other. */
  look(): Promise<void> {
    return this.#last = this.#last.catch(() => {}).then(async () => {
      const records = await this.#redis.lrange(this.#key, this.#seen, -1);
      this.#seen += records.length;
      for (const record of records) this.#add(record);
    });
  }

  /** Adds a record of the list, unless it is invalid. */
  #add(json: string): void {
    let record: Trial | StoppedTrial;
    try {
      record = JSON.parse(json);
    } catch {
      return;
    }
    const isStopped = "stopped" in Object(record);
    const fields = isStopped ? STOPPED_FIELDS : { ...trialFields(this.#task), lossBlocks: FIELD.lossBlocks };
    if (findWrongField(Object(record), fields) === undefined) this.#race.add(record, this.#chunks);
  }

  async enter(method: ResolvedOptions): Promise<RacingTrial> {
    await this.look();
    return this.#race.enter(method, this.#chunks);
  }
}
