import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { auroc } from "../../stats/ranking.ts";
import { collectRoc, plotRoc, traceRoc } from "./roc.ts";
import { makeHeadReport } from "../testing.ts";
import { ROC_GRID } from "../../heads/report.ts";

Deno.test("collectRoc() orders a report's curves, each from (0, 0)", () => {
  const rules = (rule: string, roc: number[]) => ({ rule, auroc: 0.75, roc });
  const layers = [{
    layer: 7,
    rules: [rules("random", [0.5, 1]), rules("learned", [0.25, 1]), rules("key", [])],
  }];
  assertEquals(collectRoc(layers, [0, 1]), {
    layers: [{
      layer: 7,
      curves: [
        { rule: "learned", auroc: 0.75, x: [0, 0, 1], y: [0, 0.25, 1] },
        { rule: "random", auroc: 0.75, x: [0, 0, 1], y: [0, 0.5, 1] },
      ],
    }],
  });
});

Deno.test("traceRoc() lets tokens of equal score enter together", () => {
  // Redundant: r 1 and 2. Scores: 3 (redundant), then 2 for one of each kind, then 1 (needed); one has no score.
  assertEquals(traceRoc("mine", [3, 2, 2, 1, NaN], [1, 2, 3, 4, 0], 0.5), {
    rule: "mine",
    auroc: 0.875,
    x: [0, 0, 0.5, 1],
    y: [0, 0.5, 1, 1],
  });
  assertEquals(traceRoc("mine", [1, 2], [1, 2], 0), { rule: "mine", auroc: null, x: [], y: [] });
  assertEquals(traceRoc("mine", [], [], 0.5).auroc, null);
});

Deno.test("traceRoc() has the area that the statistics have", () => {
  const count = 200,
    scores = Array.from({ length: count }, (_, i) => Math.round(7 * Math.sin(3 * i + i * i)));
  const r = scores.map((s, i) => 20 - s + 9 * Math.sin(17 * i));
  const redundant = [...r.keys()].sort((a, b) => r[a]! - r[b]!).slice(0, 60);
  const labels = Uint8Array.from(r, (_, i) => Number(redundant.includes(i)));
  assertAlmostEquals(traceRoc("x", scores, r, 0.3).auroc!, auroc(Float64Array.from(scores), labels)!, 1e-12);
});

Deno.test("plotRoc() shows the main rules, names areas, and thins long curves", () => {
  const { layers } = makeHeadReport(),
    areas = new Map(layers[0]!.rules.map(({ rule, auroc }) => [rule, auroc]));
  const figure = plotRoc(collectRoc(layers, ROC_GRID));
  const shown = figure.data.filter(({ visible }) => visible === true).map(({ name }) => name);
  const rules = ["learned", "variance", "mean", "key", "value", "random"] as const;
  const main = ["chance", ...rules.map((rule) => `${rule} ${areas.get(rule)!.toFixed(2)}`)];
  assertEquals(shown.filter((name) => main.includes(String(name))), main);
  assert(String(shown[3]).startsWith("variance inverted "));
  assert(!shown.some((name) => /^(static|min|max|product|oracle) /.test(String(name))));
  const long = traceRoc(
    "x",
    Array.from({ length: 999 }, (_, i) => i),
    Array.from({ length: 999 }, (_, i) => i % 7),
    0.5,
  );
  const [, drawn] = plotRoc({ layers: [{ layer: 0, curves: [long] }] }).data;
  const x = drawn!.x as number[];
  assertEquals([x.length, x[0], x.at(-1)], [201, 0, 1]);
  assertEquals(plotRoc({ layers: [] }).data, []);
});
