import { assertEquals, assertStringIncludes } from "@std/assert";
import type { SearchRecord } from "../../../sweep/trial.ts";
import { makeSummary, makeTrial } from "../../testing.ts";
import { collectSlices, plotSlices } from "./slices.ts";

const trial = (fusion: string, tau: number, pruneRatio: number, loss: number, second: number) => ({
  ...makeTrial({ fusion, tau, pruneRatio } as never, pruneRatio, 50),
  nllDelta: loss,
  finishedAt: `2026-01-01T00:00:0${second}Z`,
});
const summary = makeSummary([
  trial("variance", 4, 0.3, 1, 3),
  trial("variance", 0.1, 0.5, 20, 1),
  trial("mean", 1, 0.4, 3, 2),
  trial("random", 1, 0.4, 9, 4),
]);
const searched = {
  ...summary,
  search: {
    space: [
      { name: "pruneRatio", low: 0.2, high: 0.6 },
      { name: "tau", low: 0.1, high: 8 },
      { name: "fusion", choices: ["variance", "mean"] },
      { name: "recent", choices: [16] },
    ],
    importances: { tau: 0.7, fusion: 0.2, pruneRatio: 0.1 },
  } as unknown as SearchRecord,
};

Deno.test("collectSlices() has a search's trials by each axis that varies, the most important first", () => {
  assertEquals(collectSlices(summary), undefined);
  const { axes, unit } = collectSlices(searched)!;
  const found = axes.map(({ name, isLog, points }) => [
    name,
    isLog,
    points.toSorted((a, b) => a.number - b.number).map(({ value, loss, number }) => [value, loss, number]),
  ]);
  assertEquals([unit, found], ["nats per token", [
    ["tau", true, [[0.1, 20, 1], [4, 1, 3]]],
    ["fusion", false, [["variance", 20, 1], ["mean", 3, 2], ["variance", 1, 3]]],
    ["pruneRatio", false, [[0.5, 20, 1], [0.4, 3, 2], [0.3, 1, 3]]],
  ]]);
});

Deno.test("plotSlices() draws a plot an axis, all to one scale of losses and one of trials", () => {
  const { data, layout } = plotSlices(collectSlices(searched)!);
  assertEquals(data.map(({ xaxis, yaxis }) => [xaxis, yaxis]), [["x", "y"], ["x2", "y2"], ["x3", "y3"]]);
  assertEquals(data.filter(({ marker }) => (marker as { showscale?: boolean }).showscale).length, 1);
  const axes = layout as { readonly [name: string]: { readonly type?: string; readonly matches?: string } };
  assertEquals([axes.xaxis!.type, axes.xaxis2!.type, axes.xaxis3!.type], ["log", "category", undefined]);
  assertEquals([axes.yaxis!.type, axes.yaxis2!.matches, axes.yaxis3!.matches], ["log", "y", "y"]);
  assertStringIncludes((data[0]!.text as string[])[0]!, "<b>trial 1</b>");
});
