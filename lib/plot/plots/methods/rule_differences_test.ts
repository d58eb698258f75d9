import { assertEquals } from "@std/assert";
import { collectRuleDifferences, plotRuleDifferences } from "./rule_differences.ts";
import { makeHeadReport } from "../../testing.ts";

const { comparisons } = makeHeadReport().overall;

Deno.test("collectRuleDifferences() puts what is compared with random first, best first", () => {
  const rows = (measure: "auroc" | "spearman") =>
    collectRuleDifferences(comparisons, measure).rows.map(({ rule, against, difference }) =>
      `${rule} - ${against} ${difference.estimate}`
    );
  assertEquals(rows("auroc"), ["learned - random 0.25", "variance - random -0.25", "variance - key 0.5"]);
  assertEquals(rows("spearman"), ["learned - random 1", "variance - key 0.5"]);
});

Deno.test("plotRuleDifferences() draws intervals, and a gap between the two kinds", () => {
  const [marks] = plotRuleDifferences(collectRuleDifferences(comparisons, "auroc")).data;
  assertEquals([marks!.x, marks!.y], [[0.25, -0.25, 0.5], [0, 1, 2.7]]);
  const { array, arrayminus } = marks!.error_x as { array: number[]; arrayminus: number[] };
  assertEquals([array, arrayminus], [[0.25, 0.25, 0.25], [0.125, 0.125, 0.125]]);
  assertEquals(plotRuleDifferences(collectRuleDifferences([], "auroc")).data, []);
});
