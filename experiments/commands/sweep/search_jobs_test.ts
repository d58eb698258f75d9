/** Searches and races of several processes, on a study of their own. */
import { assert, assertAlmostEquals, assertEquals, assertMatch } from "@std/assert";
import { uniform } from "../../../lib/math/random.ts";
import { StudyStore, TrialRace } from "../../../lib/sweep/mod.ts";
import { IN_SLOW_TIER, unless } from "../../../lib/testing.ts";
import { prepareSearch, readResults, repeatTrials, runKilled } from "../study/study_testing.ts";
import { runTask, withFolder } from "../testing.ts";

const SMALL = ["--context", "16", "--tokens", "192", "--threads", "1"], CHUNKS = 12;

/** Arguments of a search of a few axes, whose trials differ significantly on short chunks. */
function search(folder: string): string[] {
  const theta = { low: 0.1, high: 0.9 };
  const axes = { fusion: ["key", "value"], threshold: "fixed", theta, warmup: 4 };
  Deno.writeTextFileSync(`${folder}/space.json`, JSON.stringify(axes));
  return ["--space", `${folder}/space.json`, ...SMALL];
}

Deno.test({
  ...unless(
    IN_SLOW_TIER,
    "workers that propose trials, race them and are killed come to all of them, each as it is alone",
  ),
  fn: () =>
    withFolder(async (folder) => {
      const args = [...search(folder), "--trials", "24", "--race"], path = await prepareSearch(folder, args);
      let draws = 0n;
      const killing = { workers: 2, kills: 2, mostMs: 200, atWork: true, random: () => uniform(draws++) };
      assert(await runKilled(path, killing) > 0);
      const resumed = await runTask("sweep", ...args, "--resume", `${folder}/search`, "--json", "--quiet");
      assertEquals([resumed.code, resumed.stderr], [0, ""]);
      const summary = JSON.parse(resumed.stdout), repeated = await repeatTrials(folder, path);
      using store = StudyStore.open(path);
      using whole = StudyStore.open(repeated);
      const digests = new Set(store.proposals().map(({ digest }) => digest)),
        { complete, pruned } = store.count();
      assertEquals([store.proposals().length, complete + pruned], [24, digests.size]);
      assertEquals([summary.search.proposed, summary.race.of], [24, CHUNKS * digests.size]);
      assert(complete > 0 && pruned > 0, `${complete} ${pruned}`);
      const found = readResults(path), alone = readResults(repeated), { order } = summary.race;
      assertEquals(new TrialRace("sequential", 0).order(CHUNKS), order);
      for (const { digest, number, state } of store.trials()) {
        if (state === "complete") assertEquals(found.get(digest), alone.get(digest));
        if (state !== "pruned") continue;
        const { chunkLosses } = found.get(digest) as { chunkLosses: number[] };
        const losses = new Map(whole.chunks(number).map(({ chunk, loss }) => [chunk, loss]));
        chunkLosses.forEach((loss, i) => assertAlmostEquals(loss, losses.get(order[i])!, 1e-6));
      }
    }),
});

Deno.test("a race of two jobs has the winner of a full run, and stops none in another order of chunks later", () =>
  withFolder(async (folder) => {
    const args = [...search(folder), "--trials", "12", "--sampler", "sobol", "--quiet"];
    const run = async (...more: string[]) => {
      const { code, stdout, stderr } = await runTask("sweep", ...args, ...more);
      assertEquals(code, 0, stderr);
      return JSON.parse(stdout);
    };
    const out = `${folder}/raced`, raced = await run("--json", "--jobs", "2", "--race", "--out", out);
    const full = await run("--json", "--out", `${folder}/full`);
    assertEquals([raced.trials.length + raced.stopped.length, full.trials.length], [12, 12]);
    assertEquals(raced.trials[0].trial, full.trials[0].trial);
    assert(raced.stopped.length > 0);
    for (const more of [[], ["--race", "--sampler-seed", "1"], ["--race", "halving"]]) {
      const { code, stderr } = await runTask("sweep", ...args, ...more, "--resume", out);
      assertEquals(code, 2);
      assertMatch(
        stderr,
        /^Cannot go on with "[^"]*": \d+ of its trials were stopped in a race, expected --race sequential --sampler-seed 0 [^\n]*\n$/,
      );
    }
    const { trials, stopped, race } = await run("--json", "--race", "--resume", out);
    assertEquals({ trials, stopped, race }, {
      trials: raced.trials,
      stopped: raced.stopped,
      race: raced.race,
    });
  }));
