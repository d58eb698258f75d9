import { assert, assertEquals } from "@std/assert";
import { collectRoc, plotRoc } from "./roc.ts";
import { makeHeadReport } from "../../testing.ts";
import { ROC_GRID } from "../../../heads/report.ts";

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

Deno.test("plotRoc() shows the main rules, and names areas", () => {
  const { layers } = makeHeadReport(),
    areas = new Map(layers[0]!.rules.map(({ rule, auroc }) => [rule, auroc]));
  const figure = plotRoc(collectRoc(layers, ROC_GRID));
  const shown = figure.data.filter(({ visible }) => visible === true).map(({ name }) => name);
  const rules = ["learned", "variance", "mean", "key", "value", "random"] as const;
  const main = ["chance", ...rules.map((rule) => `${rule} ${areas.get(rule)!.toFixed(2)}`)];
  assertEquals(shown.filter((name) => main.includes(String(name))), main);
  assert(String(shown[3]).startsWith("variance inverted "));
  assert(!shown.some((name) => /^(static|min|max|product|oracle) /.test(String(name))));
  assertEquals(plotRoc({ layers: [] }).data, []);
});
