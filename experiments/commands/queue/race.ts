/** A race of a sweep's trials on many machines: each worker compares its trial with all that have ended. */
import type { Redis } from "ioredis";
import type { ResolvedOptions } from "../../../lib/methods/bind/options.ts";
import type { Task } from "../../../lib/eval/task.ts";
import { FIELD, findWrongField, trialFields } from "../../../lib/sweep/fields.ts";
import type { RaceRequest, StoppedTrial, Trial } from "../../../lib/sweep/trial.ts";
import { type RacingTrial, STOPPED_FIELDS, TrialRace } from "../../../lib/sweep/trials/trial_race.ts";
import { parseJson } from "../cli/files.ts";
import type { TrialJob } from "./job.ts";

export interface QueuedRace {
  /** Adds the records since the last call; calls wait for each other. */
  look(): Promise<void>;
  enter(method: ResolvedOptions): Promise<RacingTrial>;
}

/**
 * Prepares a race.
 *
 * @param chunks Chunks that a finished trial reads.
 * @param key Key of the list with the records of ended trials.
 */
export function joinRace(
  { kind, seed }: RaceRequest,
  chunks: number,
  redis: Redis,
  key: string,
  task: Task,
): QueuedRace {
  const race = new TrialRace(kind, seed);
  let seen = 0, last: Promise<void> = Promise.resolve();
  /** Adds a record of the list, unless it is invalid. */
  const add = (json: string) => {
    const record = parseJson(json) as Trial | StoppedTrial | undefined;
    if (record === undefined) return;
    const isStopped = "stopped" in Object(record);
    const fields = isStopped ? STOPPED_FIELDS : { ...trialFields(task), lossBlocks: FIELD.lossBlocks };
    if (findWrongField(Object(record), fields) === undefined) race.add(record, chunks);
  };
  const look = () =>
    last = last.catch(() => {}).then(async () => {
      const records = await redis.lrange(key, seen, -1);
      seen += records.length;
      records.forEach(add);
    });
  const enter = async (method: ResolvedOptions) => {
    await look();
    return race.enter(method, chunks);
  };
  return { look, enter };
}

/** The race of a job, if it has one; that of the last sweep is kept. @param join Joins the race of a sweep. */
export function keepRace(
  join: (race: RaceRequest, sweep: string) => Promise<QueuedRace>,
): (job: Pick<TrialJob, "sweep" | "race">) => Promise<QueuedRace | undefined> {
  let last: { readonly sweep: string; readonly race: QueuedRace } | undefined;
  return async ({ sweep, race }) => {
    if (race === undefined) return undefined;
    if (last?.sweep !== sweep) last = { sweep, race: await join(race, sweep) };
    return last.race;
  };
}
