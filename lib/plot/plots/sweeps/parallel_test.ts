import { assertEquals, assertStringIncludes } from "@std/assert";
import { collectParallel, plotParallel } from "./parallel.ts";
import { makeSummary, makeTrial } from "../../testing.ts";

const summary = makeSummary([
  makeTrial({ fusion: "variance", tau: 4, pruneRatio: 0.5 }, 0.5, 60),
  makeTrial({ fusion: "variance", tau: 1, pruneRatio: 0.3 }, 0.3, 50),
  makeTrial({ fusion: "variance", tau: 2, pruneRatio: 0.3 }, 0.32, 55),
  makeTrial({ fusion: "mean", pruneRatio: 0.3 }, 0.3, 60),
  makeTrial({ fusion: "mean", pruneRatio: 0.4 }, null, 60),
]);

Deno.test("collectParallel() places options evenly, results to scale, and leaves gaps where none applies", () => {
  const { axes, trials, dropped } = collectParallel(summary);
  assertEquals(axes.map(({ name }) => name), [
    "tau",
    "pruneRatio",
    "queries skipped",
    "attention FLOPs",
    "loss increase",
    "KL",
  ]);
  assertEquals(axes[0]!.ticks, [{ at: 0, text: "1" }, { at: 0.5, text: "2" }, { at: 1, text: "4" }]);
  assertEquals(axes[2]!.ticks, [{ at: 0, text: "0.30" }, { at: 1, text: "0.50" }]);
  const rounded = trials.map((
    { rule, at },
  ) => [rule, ...at.map((x) => x === null ? null : Math.round(100 * x))]);
  assertEquals(rounded, [
    ["variance", 0, 0, 0, 50, 0, 0],
    ["variance", 50, 0, 10, 50, 52, 50],
    ["mean", null, 0, 0, 50, 100, 100],
    ["variance", 100, 100, 100, 50, 100, 100],
  ]);
  assertEquals(dropped, 1);
});

Deno.test("plotParallel() has a trace a rule, with a gap after each trial", () => {
  const figure = plotParallel(collectParallel(summary));
  assertEquals(figure.data.map(({ name }) => name), ["variance", "mean"]);
  assertEquals((figure.data[0]!.x as unknown[]).filter((x) => x === null).length, 3);
  assertEquals((figure.layout.annotations as unknown[]).length, 3 + 2 + 2 + 1 + 2 * 2);
  assertStringIncludes(figure.caption, "Left out: 1");
});

Deno.test("collectParallel() shows the ends alone of an option with many values, and plotParallel() an empty sweep", () => {
  const many = makeSummary([1, 2, 3, 4, 5, 6].map((tau) => makeTrial({ tau }, 0.5, 50)));
  const { axes } = collectParallel(many);
  assertEquals(axes[0]!.ticks.map(({ text }) => text), ["1", "6"]);
  assertEquals(axes[1]!.ticks, [{ at: 0.5, text: "0.50" }]);
  const empty = plotParallel(collectParallel(makeSummary([])));
  assertStringIncludes(JSON.stringify(empty.layout), "No trial here");
});

Deno.test("collectParallel() keeps the trials of lowest loss where there are too many for lines", () => {
  const many = makeSummary(
    Array.from({ length: 410 }, (_, i) => makeTrial({ pruneRatio: i / 1000 }, i / 1000, 50 + i)),
  );
  const numbers = collectParallel(many);
  assertEquals([numbers.trials.length, numbers.worse, numbers.dropped], [400, 10, 0]);
  assertEquals(numbers.axes[1]!.ticks[1]!.text, "0.40");
  assertStringIncludes(plotParallel(numbers).caption, "The 400 of lowest loss are shown, 10 are not");
});

Deno.test("collectParallel() leaves controls out, and does not count them as left without a result", () => {
  const controls = [makeTrial({ fusion: "random" }, 0.9, 45), makeTrial({ fusion: "oracle" }, null, 45)];
  const alone = collectParallel(summary);
  const beside = collectParallel(makeSummary([...summary.trials, ...controls]));
  assertEquals(beside, alone);
});
