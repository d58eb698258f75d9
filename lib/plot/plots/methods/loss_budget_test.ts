import { assertAlmostEquals, assertEquals, assertStringIncludes } from "@std/assert";
import { collectLossBudget, plotLossBudget } from "./loss_budget.ts";
import { makeSummary, makeTrial } from "../../testing.ts";

/** A trial that spends so much of the full model pairs, operations of attention, and rows. */
const trial = (
  options: Parameters<typeof makeTrial>[0],
  loss: number,
  [pairs, flops, rows]: readonly [number, number, number],
) => ({
  ...makeTrial(options, options.preset === "keys" ? 0 : 0.5, 40 * Math.exp(loss)),
  kvAchievedRatio: 0.5,
  ...{
    pairsDense: 1000,
    pairsAvoided: 1000 - pairs,
    attentionFlopsDense: 100,
    attentionFlopsAvoided: 100 - flops,
  },
  ...{ kvBytesHeld: rows, kvBytesAvoided: 100 - rows },
});

const summary = makeSummary([
  trial({ preset: "keys", kvRatio: 0.5 }, 0.02, [700, 90, 62]),
  trial({ preset: "keys", kvRatio: 0.3 }, 0.01, [800, 94, 75]),
  trial({ preset: "keys", fusion: "random", seed: 0 }, 0.03, [700, 90, 62]),
  trial({ preset: "keys", fusion: "random", seed: 1 }, 0.05, [720, 92, 64]),
  trial({ preset: "local" }, 0.09, [520, 88, 69]),
  trial({ preset: "paper" }, 1.1, [400, 60, 55]),
  trial({ fusion: "oracle" }, 0.001, [400, 60, 55]),
  makeTrial({ fusion: "mean" }, null, 40), // decided nothing
]);

Deno.test("collectLossBudget() places every trial by what it spends, cheapest last, each budget with its own front", () => {
  const pairs = collectLossBudget(summary, "pairs");
  const rounded = (x: number) => Math.round(1000 * x) / 1000;
  assertEquals(pairs.curves.map(({ name, points }) => [name, points.map(({ x }) => rounded(x))]), [
    ["oracle", [0.4]],
    ["paper", [0.4]],
    ["keys", [0.8, 0.7]],
    ["local", [0.52]],
  ]);
  const [band] = pairs.bands;
  assertEquals([band!.name, band!.points.map(({ x, seeds }) => [rounded(x), seeds])], ["random for keys", [[
    0.71,
    2,
  ]]]);
  assertAlmostEquals(band!.points[0]!.values.nllDelta!.mean, 0.04, 1e-12);
  const front = (budget: "pairs" | "cache" | "attentionFlops") =>
    collectLossBudget(summary, budget).front.map(({ x }) => rounded(x));
  // `local` spends less than `keys` in pairs and operations, but holds more rows: it is on no front of rows.
  assertEquals([front("pairs"), front("attentionFlops"), front("cache")], [
    [0.8, 0.7, 0.52, 0.4],
    [0.94, 0.9, 0.88, 0.6],
    [0.75, 0.62, 0.55],
  ]);
  assertEquals([pairs.dropped, collectLossBudget(summary).budget], [1, "attentionFlops"]);
});

Deno.test("plotLossBudget() runs from dense to cheap, on a log scale where losses lie far apart", () => {
  const figure = plotLossBudget(collectLossBudget(summary, "cache"));
  assertStringIncludes(figure.title, "bytes of keys and values in use");
  const { xaxis, yaxis } = figure.layout as { [name: string]: { range: number[]; type?: string } };
  assertEquals([xaxis!.range[0]! > xaxis!.range[1]!, yaxis!.type], [true, "log"]);
  assertStringIncludes(figure.caption, "1 trial without a finite value");
  // A loss below dense has no place on a log scale: it is drawn at a thousandth of the highest one.
  const below = makeSummary([
    ...summary.trials,
    trial({ preset: "local", pruneRatio: 0.3 }, -0.01, [700, 92, 80]),
  ]);
  const raised = plotLossBudget(collectLossBudget(below, "cache"));
  const local = raised.data.find(({ name }) => name === "local")!;
  assertEquals((local.y as number[]).map((y) => Number(y.toFixed(6))), [0.0011, 0.09]);
  assertStringIncludes(raised.caption, "Losses below 0.001 are drawn there");
  const near = plotLossBudget(
    collectLossBudget(makeSummary(summary.trials.filter(({ kvFusion }) => kvFusion === "variance")), "cache"),
  );
  assertEquals((near.layout.yaxis as { type?: string }).type, undefined);
  const dense = near.data.at(-1)!;
  assertEquals([dense.name, dense.y], ["dense", [0, 0]]);
  const empty = plotLossBudget(collectLossBudget(makeSummary([]), "pairs"));
  assertStringIncludes(JSON.stringify(empty.layout), "No trial here");
});
