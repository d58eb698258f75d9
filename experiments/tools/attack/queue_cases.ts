/** Malicious content of a queue: invalid jobs, changed jobs of a sweep, and results that no worker measured. */
import type { Queue } from "bullmq";
import type { Redis } from "ioredis";
import type { Trial } from "../../../lib/sweep/mod.ts";

/** A sweep's jobs in a queue, before any worker is there. */
export interface Target {
  readonly queue: Queue;
  readonly redis: Redis;
  readonly sweep: string;
  /** Ids of its jobs; each attack takes one. */
  readonly ids: readonly string[];
}

/** A job of another sweep. */
const foreign = (data: unknown) => async ({ queue }: Target) => void await queue.add("x", data);

/** A job of the sweep with other data. @param change Of their JSON */
const changed = (change: (json: string) => string) => async ({ queue, redis }: Target, id: string) => {
  const key = queue.toKey(id);
  await redis.hset(key, "data", change((await redis.hget(key, "data"))!));
};

const whole = { sweep: "other", study: "0".repeat(64), digest: "0".repeat(12), options: {} };

/** Ways to poison a queue; `id` is of a job of the sweep. */
export const POISONS: { readonly [what: string]: (target: Target, id: string) => Promise<unknown> } = {
  "null": foreign(null),
  "a text": foreign("x"),
  "a number": foreign(7),
  "a list": foreign([]),
  "an empty record": foreign({}),
  "a long text": foreign({ sweep: "x".repeat(2 ** 20) }),
  "a study that is not there": foreign(whole),
  "a study that is none": foreign({ ...whole, study: null }),
  "options that are none": foreign({ ...whole, options: null }),
  "the sweep's name on another's job": ({ queue, sweep }) => queue.add("x", { ...whole, sweep }),
  "an id of the sweep for a trial that it does not have": ({ queue, sweep }) =>
    queue.add("x", { ...whole, sweep }, { jobId: `${sweep}-${whole.digest}` }),
  "progress that is none": async ({ queue, redis }, id) => {
    for (const data of ["null", "7", '{"owner":7}', "{"]) {
      await redis.xadd(queue.toKey("events"), "*", "event", "progress", "jobId", id, "data", data);
    }
  },
  "an end of a job that is not there": ({ queue, redis, sweep }) =>
    redis.zadd(queue.toKey("completed"), 1, `${sweep}-none`, 1, "none"),
  "a job of the sweep with null": changed(() => "null"),
  "one with other options": changed((json) => json.replace(/"seed":\d+/, '"seed":99')),
  "one with another digest": changed((json) => json.replace(/"digest":"\w+"/, '"digest":"000000000000"')),
  "one that is no JSON": changed(() => "{"),
  "one that was taken out": ({ queue, redis }, id) => redis.del(queue.toKey(id)),
  "one that is no job": async ({ queue, redis }, id) => {
    await redis.del(queue.toKey(id));
    await redis.set(queue.toKey(id), "x");
  },
};

/** Ways to forge a result, of the true one and another trial's. */
export const FORGERIES: { readonly [what: string]: (record: Trial, other: Trial) => unknown } = {
  "null": () => null,
  "a text": () => "x",
  "a number": () => 1.0001,
  "a list": () => [],
  "an empty record": () => ({}),
  "a field less": ({ lossBlocks: _, ...record }) => record,
  "a field of another kind": (record) => ({ ...record, kvBytesHeld: "none" }),
  "a better perplexity": (record) => ({ ...record, perplexity: 1.0001 }),
  "another run": (record) => ({ ...record, runDigest: "nonsense" }),
  "another text": (record) => ({ ...record, textSha256: "0".repeat(64) }),
  "another model": (record) => ({ ...record, modelSha256: "0".repeat(64) }),
  "another trial's": (_, other) => other,
  "a trial that nobody asked for": (record) => ({ ...record, seed: 99, trial: "0".repeat(12) }),
};
