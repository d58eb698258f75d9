/** A queue that others write to, and that loses its data: the results are those of a sweep without a queue. */
import { assertEquals, assertMatch } from "@std/assert";
import { Queue } from "bullmq";
import type { Redis } from "ioredis";
import { MAX_ATTEMPTS, StudyStore } from "../../../lib/sweep/mod.ts";
import { IN_SLOW_TIER, unless } from "../../../lib/testing.ts";
import { delay, readResults, readTrials } from "../study/study_testing.ts";
import { finish, runTask, spawnTask, withFolder } from "../testing.ts";
import { Connections, readAddress } from "./connection.ts";
import { QUEUE_NAME } from "./job.ts";
import { NEEDS_REDIS, RedisServer, startWorker } from "./queue_testing.ts";

/** A sweep's jobs in a queue, before any worker is there. */
interface Target {
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
const POISONS: { readonly [what: string]: (target: Target, id: string) => Promise<unknown> } = {
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

Deno.test({
  ...unless(
    NEEDS_REDIS || IN_SLOW_TIER,
    "a queue that is poisoned, emptied and loses its server's data comes to the results of a sweep without one",
  ),
  fn: () =>
    withFolder(async (folder) => {
      const ways = Object.values(POISONS), seeds = ways.map((_, i) => i).join(",");
      const small = "--context 64 --tokens 64 --warmup 8 --threads 1 --method random --seed";
      const args = [...small.split(" "), seeds], out = `${folder}/out`;
      const whole = await runTask("sweep", ...args, "--quiet", "--jobs", "1", "--out", `${folder}/whole`);
      assertEquals([whole.code, whole.stderr], [0, ""]);
      await using server = await RedisServer.start(folder, [], "127.0.0.1", false);
      const sweeping = finish(await spawnTask("sweep", [...args, "--queue", server.url, "--out", out]));
      using connections = await Connections.open(await readAddress(server.url));
      const redis = connections.connect(), { prefix } = connections.address;
      const queue = new Queue(QUEUE_NAME, { connection: redis, prefix });
      queue.on("error", () => {});
      while (await queue.getWaitingCount() < ways.length) await delay(20);
      const ids = await queue.getRanges(["waiting"], 0, -1);
      {
        using store = StudyStore.open(`${out}/study.db`);
        const target = { queue, redis, ids, sweep: store.get("queued")! };
        for (const [i, put] of ways.entries()) await put(target, ids[i]!);
      }
      const workers = [await startWorker(server.url, 2), await startWorker(server.url, 2)];
      const ends = workers.map(finish);
      const reach = async (count: number) => {
        while (readTrials(out).length < count) await delay(20);
      };
      await reach(2);
      await redis.flushall();
      await reach(4);
      await server.restart(300);
      const { code, stderr } = await sweeping;
      assertEquals(code, 0, stderr);
      assertMatch(stderr, /The queue has lost/);
      for (const worker of workers) worker.kill("SIGTERM");
      for (const end of await Promise.all(ends)) assertEquals(end.code, 0, end.stderr);
      assertEquals(readResults(`${out}/study.db`), readResults(`${folder}/whole/study.db`));
    }),
});

Deno.test({
  ...unless(
    NEEDS_REDIS || IN_SLOW_TIER,
    "a trial whose worker ends is offered as often in a queue as in a study, each time with a line",
  ),
  fn: () =>
    withFolder(async (folder) => {
      await using server = await RedisServer.start(folder, [], "127.0.0.1", false);
      const args = "--context 512 --tokens 8192 --threads 1 --method random".split(" ");
      const sweeping = finish(
        await spawnTask("sweep", [...args, "--queue", server.url, "--out", `${folder}/out`]),
      );
      using connections = await Connections.open(await readAddress(server.url));
      const redis = connections.connect(), { prefix } = connections.address;
      const queue = new Queue(QUEUE_NAME, { connection: redis, prefix });
      queue.on("error", () => {});
      while (await queue.getWaitingCount() < 1) await delay(20);
      const [id] = await queue.getRanges(["waiting"], 0, -1);
      await redis.hset(queue.toKey(id!), "stc", MAX_ATTEMPTS - 2); // workers that have ended at it before
      const isHeld = async () => await redis.exists(`${queue.toKey(id!)}:lock`) === 1;
      for (let attempt = MAX_ATTEMPTS - 1; attempt <= MAX_ATTEMPTS; attempt++) {
        const worker = await startWorker(server.url, 2), ended = finish(worker);
        while (!await isHeld()) await delay(5);
        worker.kill("SIGKILL");
        await ended;
        while (await isHeld()) await delay(20);
      }
      const last = await startWorker(server.url, 2), lastEnds = finish(last);
      const { code, stderr } = await sweeping;
      last.kill("SIGTERM");
      await lastEnds;
      assertEquals(code, 1, stderr);
      assertMatch(stderr, /A worker has ended at trial \w+, which is offered again/);
      using store = StudyStore.open(`${folder}/out/study.db`);
      assertMatch(store.trials()[0]!.error!, /stalled/);
    }),
});
