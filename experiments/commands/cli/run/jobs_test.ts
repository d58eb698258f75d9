import { assert, assertEquals, assertThrows } from "@std/assert";
import { UsageError } from "../../../../lib/errors.ts";
import { proposeTrials, StudyStore } from "../../../../lib/sweep/mod.ts";
import { resolveOptions } from "../../../../lib/methods/mod.ts";
import { runTask, withFolder } from "../../testing.ts";
import { Progress } from "../output/progress.ts";
import { fitJobs, jobsFor, startWorkers, threadsOf } from "./jobs.ts";

Deno.test("jobsFor() has as many processes as cores for small models, of 8 trials each", () => {
  assertEquals([7, 15, 16, 24, 66].map((trials) => jobsFor(trials, 5e6, 4)), [1, 1, 2, 3, 4]);
  assertEquals([jobsFor(66, 32e6, 2), jobsFor(66, 32e6 + 1, 2), jobsFor(66, 5e6, 1)], [2, 1, 1]);
  assertEquals(jobsFor(0, 5e6, 2), 1);
});

Deno.test("fitJobs() refuses processes that do not fit into memory, and takes fewer where nobody has named a number", () => {
  assertEquals([1e9, 3e8, 2.99e8, 0].map((free) => fitJobs(4, false, 1e8, free)), [4, 4, 3, 1]);
  assertEquals(fitJobs(4, true, 1e8, 3e8), 4);
  assertThrows(
    () => fitJobs(4, true, 1.3e8, 2.7e8),
    UsageError,
    "Cannot run --jobs 4: the others need 0.4 GB, 0.1 GB each, 0.3 GB are free; expected at most --jobs 3",
  );
});

Deno.test("threadsOf() shares the cores out, and leaves all to one process", () => {
  const cores = navigator.hardwareConcurrency;
  assertEquals([threadsOf(1), threadsOf(cores + 1)], [undefined, 1]);
  assertEquals(threadsOf(2), Math.max(1, Math.floor(cores / 2)));
});

Deno.test("startWorkers() ends its workers at the end of the scope, whatever is left to do", () =>
  withFolder(async (folder) => {
    const small = [
      "--context",
      "64",
      "--tokens",
      "64",
      "--warmup",
      "8",
      "--threads",
      "1",
      "--method",
      "random",
    ];
    assertEquals((await runTask("sweep", ...small, "--quiet", "--out", folder)).code, 0);
    using store = StudyStore.open(`${folder}/study.db`);
    const seeds = Array.from({ length: 100 }, (_, i) => BigInt(i + 1));
    store.add(
      proposeTrials(seeds.map((seed) => resolveOptions({ fusion: "random", warmup: 8, seed }))),
    );
    {
      const options = { threads: 1, isOver: () => false, progress: new Progress(undefined) };
      await using _workers = await startWorkers(store, 1, options);
    }
    assert(store.count().waiting > 0);
  }));
