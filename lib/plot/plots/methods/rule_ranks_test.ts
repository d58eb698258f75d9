import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { headRules } from "../../../heads/report.ts";
import { collectRuleRanks, plotRuleRanks } from "./rule_ranks.ts";
import { makeHeadReport } from "../../testing.ts";

const layers = [
  {
    layer: 4,
    rules: [{ rule: "random", auroc: 0.5, spearman: 0 }, { rule: "key", auroc: 0.25, spearman: -0.5 }],
  },
  {
    layer: 6,
    rules: [{
      rule: "key",
      auroc: 0.375,
      aurocInterval: { estimate: 0.375, low: 0.25, high: 0.75 },
      spearman: null,
      spearmanInterval: null,
    }],
  },
];

Deno.test("collectRuleRanks() lines rules up over layers, intervals where there are some", () => {
  assertEquals(collectRuleRanks(layers, "auroc"), {
    measure: "auroc",
    layers: [4, 6],
    curves: [
      { rule: "key", values: [0.25, 0.375], low: [null, 0.25], high: [null, 0.75] },
      { rule: "random", values: [0.5, null], low: [null, null], high: [null, null] },
    ],
  });
  assertEquals(collectRuleRanks(layers, "spearman").curves[0]!.values, [-0.5, null]);
});

Deno.test("plotRuleRanks() sets the rules of a layer side by side, with whiskers", () => {
  const figure = plotRuleRanks(collectRuleRanks(layers, "auroc"));
  const [key, random] = figure.data;
  assertEquals([key!.x, random!.x], [[3.72, 5.72], [4.28, 6.28]]);
  assertEquals(key!.error_y && (key.error_y as Record<string, unknown>).array, [null, 0.375]);
  assertStringIncludes(figure.caption, "95% intervals");
  assert(!plotRuleRanks(collectRuleRanks(layers.slice(0, 1), "auroc")).caption.includes("intervals"));
});

Deno.test("plotRuleRanks() draws a report, and says what is missing of an empty one", () => {
  const figure = plotRuleRanks(collectRuleRanks(makeHeadReport().layers, "spearman"));
  assertEquals(figure.data.length, headRules().length);
  assertEquals(plotRuleRanks(collectRuleRanks([], "auroc")).data, []);
});
