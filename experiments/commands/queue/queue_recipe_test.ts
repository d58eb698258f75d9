/** Tests a recipe whose jobs run by a queue. */
import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { UsageError } from "../../../lib/errors.ts";
import { IN_SLOW_TIER, unless } from "../../../lib/testing.ts";
import { StudyStore } from "../../../lib/sweep/mod.ts";
import { jobsOfRecipe, openJobs } from "../reproduce/work.ts";
import { delay } from "../study/study_testing.ts";
import { countUnits, finish, runTask, spawnTask, withFolder } from "../testing.ts";
import { jobId } from "./job.ts";
import { NEEDS_REDIS, RedisServer, startWorker } from "./queue_testing.ts";

const RECIPE = {
  version: 1,
  about: "A small recipe",
  model: "tiny",
  methods: "key,random",
  ratios: "0.3,0.5",
  flags: { seeds: "1", match: "none", recent: "0" },
  lengths: [],
  protocols: {
    "own-64": { label: "prose at 64", says: "256 tokens", task: "perplexity", context: 64, tokens: 256 },
  },
  sources: { own: "a test" },
  numbers: [{ source: "own", protocol: "own-64", model: "tiny", values: { dense: 50.615 } }],
  parts: { "own-64": { warmup: "8" }, "recall": { items: "2", length: "48", "filter-from": "50%" } },
};

/** The content of a run's reproduce.json without times and memory, which differ from run to run. */
const withoutTimes = (out: string) =>
  JSON.parse(
    Deno.readTextFileSync(`${out}/reproduce.json`),
    (key, value) => ["peakMemoryBytes", "startedAt"].includes(key) || /Ms$/.test(key) ? undefined : value,
  );

Deno.test({
  ...unless(
    NEEDS_REDIS || IN_SLOW_TIER,
    "a recipe by a queue comes to what it comes to here, though a worker is killed",
  ),
  fn: () =>
    withFolder(async (folder) => {
      const path = `${folder}/small.json`, args = [path, "--threads", "1", "--quiet", "--out"];
      Deno.writeTextFileSync(path, JSON.stringify(RECIPE));
      await using server = await RedisServer.start(folder);
      const whole = await runTask("reproduce", ...args, `${folder}/whole`);
      assertEquals([whole.code, whole.stderr], [0, ""]);
      const out = `${folder}/queued`;
      const submitted = await spawnTask("reproduce", [...args, out, "--queue", server.url]),
        ended = finish(submitted);
      const lost = await startWorker(server.url, 2), lostEnds = finish(lost);
      const end = Date.now() + 60_000;
      while (countUnits(out, "chunk own-64") < 6 && Date.now() < end) await delay(20);
      lost.kill("SIGKILL");
      const other = await startWorker(server.url, 2), otherEnds = finish(other);
      const { code, stderr } = await ended;
      assertEquals([code, stderr], [0, ""]);
      other.kill("SIGTERM");
      assertEquals((await otherEnds).code, 0);
      await lostEnds;
      assertEquals(withoutTimes(out), withoutTimes(`${folder}/whole`));
      // The full model and two ratios of each part, all by workers.
      using store = StudyStore.open(`${out}/study.db`);
      assertEquals(store.count().complete, 6);
      assert(store.workers().length === 2);
    }),
});

Deno.test("reproduce refuses a queue that does not answer, and leaves no folder", () =>
  withFolder(async (folder) => {
    const out = `${folder}/out`;
    const args = ["quick", "--quiet", "--threads", "1", "--queue", "redis://127.0.0.1:9", "--out", out];
    const { code, stdout, stderr } = await runTask("reproduce", ...args);
    assertEquals([code, stdout, [...Deno.readDirSync(folder)]], [2, "", []]);
    assertMatch(stderr, /^Cannot reach the queue at redis:\/\/127\.0\.0\.1:9: there is no answer .*\n$/);
    const both = await runTask("reproduce", ...args, "--jobs", "2");
    assertMatch(both.stderr, /^Cannot use --jobs with --queue/);
  }));

Deno.test("chunks and results of a queue are taken only if they are of the recipe's parts and jobs", async () => {
  const conditions = {
    version: "1",
    model: "m",
    modelSha256: "a",
    backend: "cpu",
    cacheDType: "f32",
  } as never;
  using store = StudyStore.create(":memory:", { name: "", conditions, runDigest: "d", flags: {} });
  const parts = [{ name: "own", methods: [] }] as never,
    kind = jobsOfRecipe(store, { content: "{}" } as never, parts);
  const unit = {
    ...{ part: "own", trial: "dense", method: "dense", chunk: 0, timeMs: 1, usage: {}, skips: {} },
    scores: { losses: [1, 2] },
  };
  const refused = kind.takeUnits!([
    "{",
    "null",
    JSON.stringify({ ...unit, part: "other" }),
    JSON.stringify({ ...unit, scores: { losses: ["1"] } }),
    JSON.stringify({ ...unit, chunk: "0" }),
    JSON.stringify(unit),
    JSON.stringify({ ...unit, scores: { losses: [3] } }),
  ]);
  assertEquals(refused.length, 5);
  assertMatch(refused[2]!, /found part "other", expected one of the recipe's/);
  // The first of two stays.
  const { part: _, ...kept } = unit;
  assertEquals(store.listUnits(), [{ kind: "chunk own", ...kept }]);
  const trial = { digest: "own: dense" } as never;
  assertEquals(kind.findWrong({ trial: "own: dense", timeMs: 1 }, trial), undefined);
  assertEquals(kind.findWrong({ trial: "own: 0.3", timeMs: 1 }, trial), "it is another job's");
  assert(
    kind.findWrong(null, trial) !== undefined && kind.findWrong({ trial: "own: dense" }, trial) !== undefined,
  );
  await assertRejects(
    () => openJobs(parts)("own: 0.7", { onUnit() {}, onProgress() {} }),
    UsageError,
    'Cannot run job "own: 0.7": the recipe has none of this name',
  );
  // Ids of jobs have no colon, which the queue's client refuses.
  assertEquals(jobId("sweep", "own-64 (all): 0.3"), "sweep-own-64%20(all)%3A%200.3");
});
