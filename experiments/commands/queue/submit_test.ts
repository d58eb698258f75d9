/**
 * Data of a queue that a submitter does not trust: jobs of others, changed jobs, and results that no worker measured.
 */
import { assertEquals, assertMatch } from "@std/assert";
import { type Job, Queue, Worker } from "bullmq";
import { resolveOptions } from "../../../lib/methods/mod.ts";
import { makeTrial } from "../../../lib/plot/testing.ts";
import {
  digestConditions,
  proposeTrials,
  type RunConditions,
  StudyStore,
  StudyTrials,
} from "../../../lib/sweep/mod.ts";
import { unless } from "../../../lib/testing.ts";
import type { Progress } from "../cli/output/progress.ts";
import { withFolder } from "../testing.ts";
import { Connections, readAddress } from "./connection.ts";
import { jobOf, QUEUE_NAME, type TrialJob } from "./job.ts";
import { NEEDS_REDIS, RedisServer } from "./queue_testing.ts";
import { jobsOfSweep, submitTrials } from "./submit.ts";

const conditions: RunConditions = {
  ...{ version: "0", model: "tiny", modelSha256: "a", text: "prose", textSha256: "b", context: 64 },
  ...{ textTokens: 64, bos: true, backend: "cpu", cacheDType: "f32" },
};

Deno.test("a trial's job says whose it is, and the race that it runs in", () => {
  const trial = { digest: "d", options: {} } as TrialJob, whose = { sweep: "s", study: "e" };
  assertEquals(jobOf(trial, whose), { ...trial, ...whose });
  const race = { kind: "halving", seed: 7 } as const;
  assertEquals(jobOf(trial, { ...whose, race }), { ...trial, ...whose, race });
});

type Result = { readonly [name: string]: unknown };
/** Ways to forge a result, of the true one and another trial's. */
const FORGERIES: { readonly [what: string]: (record: Result, other: Result) => unknown } = {
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

Deno.test("a sweep refuses each kind of a forged result", () =>
  withFolder(async (folder) => {
    const runDigest = await digestConditions(conditions);
    using store = StudyStore.create(`${folder}/study.db`, { name: "mine", conditions, runDigest, flags: {} });
    store.add(proposeTrials([1n, 2n].map((seed) => resolveOptions({ fusion: "random", seed }))));
    const { findWrong } = jobsOfSweep(store, "a text"), [trial, second] = store.trials();
    const recordOf = ({ digest, options }: NonNullable<typeof trial>): Result => {
      return {
        ...makeTrial({ fusion: "random" }, 0.5, 50),
        ...options,
        ...conditions,
        trial: digest,
        runDigest,
      };
    };
    const record = recordOf(trial!), other = recordOf(second!);
    assertEquals([findWrong(record, trial!), findWrong(other, second!)], [undefined, undefined]);
    for (const [what, forge] of Object.entries(FORGERIES)) {
      assertEquals(typeof findWrong(forge(record, other), trial!), "string", what);
    }
  }));

Deno.test({
  ...unless(
    NEEDS_REDIS,
    "a sweep takes from a queue what it has asked for alone, and leaves the jobs of others",
  ),
  fn: () =>
    withFolder(async (folder) => {
      await using server = await RedisServer.start(folder);
      const runDigest = await digestConditions(conditions);
      using store = StudyStore.create(`${folder}/study.db`, {
        name: "mine",
        conditions,
        runDigest,
        flags: {},
      });
      store.add(proposeTrials([1n, 2n].map((seed) => resolveOptions({ fusion: "random", seed }))));
      using connections = await Connections.open(await readAddress(server.url));
      let said = Promise.withResolvers<string>();
      const progress = { line: (text: string) => said.resolve(text) } as unknown as Progress;
      const source = new StudyTrials(store, { owner: "one" });
      const { signal } = new AbortController();
      const queued = await submitTrials(
        store,
        source,
        jobsOfSweep(store, "a text"),
        connections,
        progress,
        signal,
      );
      const { prefix } = connections.address, connect = () => ({ connection: connections.connect(), prefix });
      const others = new Queue(QUEUE_NAME, connect()),
        worker = new Worker<TrialJob>(QUEUE_NAME, null, connect());
      const next = async (): Promise<Job<TrialJob>> => await worker.getNextJob("w") ?? await next();
      const answer = async (job: Job<TrialJob>, change: object | null = {}) => {
        const { digest, options } = job.data,
          { perplexity, ...measured } = makeTrial({ fusion: "random" }, 0.5, 50);
        const record = { ...measured, perplexity, ...options, ...conditions, trial: digest, runDigest };
        await job.moveToCompleted(change && { ...record, ...change }, "w", false);
      };
      const refused = async (job: Job<TrialJob>, change: object | null, why: RegExp) => {
        said = Promise.withResolvers();
        await answer(job, change);
        const line = await said.promise;
        assertMatch(
          line,
          /^Refuses a result of trial \w{12} from the queue: .*; the trial is offered again$/,
        );
        assertMatch(line, why);
      };
      const [first, second] = [await next(), await next()];
      await others.add("x", null);
      const foreign = await next();
      assertEquals(foreign.name, "x");
      await foreign.moveToCompleted(null as never, "w", false);
      await refused(first, null, /: found null, expected a record;/);
      await refused(await next(), { model: "other" }, /field "model": found "other", expected "tiny"/);
      await refused(
        await next(),
        { perplexity: 1 },
        /field "perplexity": found 1, expected what its losses come to/,
      );
      await refused(await next(), { trial: second.data.digest }, /field "trial"/);
      said = Promise.withResolvers();
      await answer(await next(), { kvBytesHeld: "x" });
      assertMatch(await said.promise, /field "kvBytesHeld": found "x".*; the trial has failed$/);
      await answer(second);
      while (!queued.source.isOver()) await new Promise((resolve) => setTimeout(resolve, 20));
      assertEquals(store.finished().map(({ trial }) => trial), [second.data.digest]);
      const [failed] = store.trials();
      assertMatch(failed!.error!, /^its results were refused 5 times, at last since field "kvBytesHeld"/);
      assertEquals(await others.getRanges(["completed", "failed", "waiting"], 0, -1), [foreign.id]);
      await queued[Symbol.asyncDispose]();
      await Promise.all([others.close(), worker.close()]);
    }),
});
