import { assertEquals } from "@std/assert";
import { RULES } from "../methods/list.ts";
import { headRules } from "./report.ts";
import { compareRules, type RatedRules, resampleRules } from "./summary.ts";

Deno.test("resampleRules() gives every rule its draws, an inverted one those of the other turned round", () => {
  const scores = new Map(RULES.map(({ name }, i) => [name, Float64Array.of(i % 2, 1, 2, 3)]));
  const task = {
    tokens: Int32Array.of(0, 1, 2, 3),
    labels: Uint8Array.of(0, 0, 1, 1),
    target: Float64Array.of(1, 2, 3, 4),
  };
  const once = { length: 4, resamples: 1, fill: (_: number, counts: Float64Array) => counts.fill(1) };
  const draws = resampleRules(scores as never, task, once as never);
  assertEquals(draws.length, headRules().length);
  headRules().forEach((rule, i) => {
    const turned = rule.endsWith(" inverted");
    assertEquals([rule, draws[i]!.auroc[0]], [rule, turned ? 0 : 1]);
    assertEquals(Math.sign(draws[i]!.spearman[0]!), turned ? -1 : 1);
  });
});

Deno.test("compareRules() takes differences of the same resamples", () => {
  const rated: RatedRules = {
    rules: headRules().map((rule) => ({ rule, auroc: rule === "random" ? 0.5 : 0.75, spearman: null })),
    draws: headRules().map((rule) => {
      const apart = rule === "random" ? 0 : 0.25;
      return { auroc: Float64Array.of(0.25 + apart, 0.5 + apart), spearman: Float64Array.of(NaN, NaN) };
    }),
  };
  const found = compareRules(rated, 0.95).find(({ rule, against }) =>
    rule === "key" && against === "random"
  )!;
  assertEquals([found.auroc?.estimate, found.auroc?.low, found.auroc?.high], [0.25, 0.25, 0.25]);
  assertEquals(found.spearman, null);
});
