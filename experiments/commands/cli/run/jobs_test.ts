import { assertEquals } from "@std/assert";
import { jobsFor, threadsOf } from "./jobs.ts";

Deno.test("jobsFor() has as many processes as cores for small models, of 8 trials each", () => {
  assertEquals([7, 15, 16, 24, 66].map((trials) => jobsFor(trials, 5e6, 4)), [1, 1, 2, 3, 4]);
  assertEquals([jobsFor(66, 32e6, 2), jobsFor(66, 32e6 + 1, 2), jobsFor(66, 5e6, 1)], [2, 1, 1]);
  assertEquals(jobsFor(0, 5e6, 2), 1);
});

Deno.test("threadsOf() shares the cores out, and leaves all to one process", () => {
  const cores = navigator.hardwareConcurrency;
  assertEquals([threadsOf(1), threadsOf(cores + 1)], [undefined, 1]);
  assertEquals(threadsOf(2), Math.max(1, Math.floor(cores / 2)));
});
