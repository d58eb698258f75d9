/** Searches, races and budgets of sweeps whose trials go through a queue. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { IN_SLOW_TIER, unless } from "../../../lib/testing.ts";
import { StudyStore } from "../../../lib/sweep/mod.ts";
import { Connections, readAddress } from "./connection.ts";
import { NEEDS_REDIS, RedisServer, startWorker } from "./queue_testing.ts";
import { readResults, readTrials } from "../study/study_testing.ts";
import { finish, runProcess, spawnTask, withFolder } from "../testing.ts";

const SMALL = ["--context", "16", "--tokens", "192", "--threads", "1", "--quiet"];

/** What a sweep prints with --json, without times. */
const readOutput = (text: string) =>
  JSON.parse(text, (key, value) => /^(denseTimeMs|timeMs|finishedAt)$/.test(key) ? undefined : value);

/** A study's results, in the order in which the trials ended. */
function readEnds(folder: string): object[] {
  return [...readResults(`${folder}/study.db`).values()].map((result) => ({ ...result, stoppedAt: "" }));
}

Deno.test({
  ...unless(
    NEEDS_REDIS || IN_SLOW_TIER,
    "sweeps that propose and race over one queue come to what each comes to alone, and to all with more workers",
  ),
  fn: () =>
    withFolder(async (folder) => {
      const axes = {
        fusion: ["key", "value"],
        threshold: "fixed",
        theta: { low: 0.1, high: 0.9 },
        warmup: 4,
      };
      await Deno.writeTextFile(`${folder}/space.json`, JSON.stringify(axes));
      await using server = await RedisServer.start(folder);
      const args = (seed: string, out: string) => [
        ...["--space", `${folder}/space.json`, ...SMALL, "--trials", "12", "--race", "--sampler-seed", seed],
        ...["--out", `${folder}/${out}`, "--json"],
      ];
      const queued = async (seed: string) =>
        finish(await spawnTask("sweep", [...args(seed, `queued${seed}`), "--queue", server.url]));
      const seeds = ["0", "1"],
        alone = seeds.map((seed) => runProcess("sweep", ...args(seed, `alone${seed}`)));
      const workers = [await startWorker(server.url, 60)], ends = workers.map(finish);
      const sweeps = await Promise.all(await Promise.all(seeds.map(queued)));
      for (const [i, { code, stdout, stderr }] of (await Promise.all(alone)).entries()) {
        assertEquals([code, stderr, sweeps[i]!.code, sweeps[i]!.stderr], [0, "", 0, ""]);
        const { race, search, stopped } = readOutput(stdout), found = readOutput(sweeps[i]!.stdout);
        assert(stopped.length > 0);
        assertEquals([found.race, found.search], [race, search]);
        assertEquals(readEnds(`${folder}/queued${i}`), readEnds(`${folder}/alone${i}`));
      }
      workers.push(await startWorker(server.url, 60));
      ends.push(finish(workers[1]!));
      const { code, stdout, stderr } = await (await queued("2"));
      assertEquals([code, stderr], [0, ""]);
      const { trials, stopped, search } = JSON.parse(stdout);
      assertEquals([search.proposed, trials.length + stopped.length], [12, 12 - search.repeated]);
      using store = StudyStore.open(`${folder}/queued2/study.db`);
      assertEquals(store.count().pruned, stopped.length);
      for (const worker of workers) worker.kill("SIGTERM");
      const said = (await Promise.all(ends)).map(({ code, stderr }) => [code, stderr] as const);
      assertEquals(said.map(([code]) => code), [0, 0]);
      assertStringIncludes(said[0]![1], "Stopped trial ");
    }),
});

Deno.test({
  ...unless(
    NEEDS_REDIS || IN_SLOW_TIER,
    "a sweep whose budget is over takes back what no worker is at, and goes on later",
  ),
  fn: () =>
    withFolder(async (folder) => {
      await using server = await RedisServer.start(folder);
      const out = `${folder}/out`, args = [...SMALL, "--method", "random", "--seed", "1,2,3"];
      const sweep = (...more: string[]) => runProcess("sweep", ...args, ...more, "--queue", server.url);
      const { code, stdout, stderr } = await sweep("--out", out, "--time", "0.01s");
      assertEquals([code, stderr], [0, ""]);
      assertStringIncludes(stdout, "was over before all trials");
      assertEquals(readTrials(out), []);
      using connections = await Connections.open(await readAddress(server.url));
      const redis = connections.connect();
      assertEquals(await redis.llen("tokenfilter:trials:wait"), 0);
      const worker = await startWorker(server.url, 60), ended = finish(worker);
      const rest = await sweep("--resume", out);
      assertEquals([rest.code, rest.stderr, readTrials(out).length], [0, "", 3]);
      worker.kill("SIGTERM");
      const { stderr: said } = await ended;
      assertEquals(said.match(/Finished trial/g)?.length, 3);
    }),
});
