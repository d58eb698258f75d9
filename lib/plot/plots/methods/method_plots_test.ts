import { assertAlmostEquals, assertEquals, assertStringIncludes } from "@std/assert";
import { recordOptions, resolveOptions } from "../../../methods/bind/options.ts";
import type { ComparedPair, ComparedResult, Comparison } from "../../../sweep/mod.ts";
import { mapBudgets } from "../../../sweep/budgets.ts";
import { WIDE } from "../../figure/parts.ts";
import { collectMethodBudgets, plotMethodBudgets } from "./method_budgets.ts";
import { collectMethodMatrix, plotMethodMatrix } from "./method_matrix.ts";

const retained = (spent: number) => mapBudgets((budget) => budget === "cache" ? 1 : spent);
const method = (name: string, asked: number | undefined, spent: number, missed = false) => ({
  ...{ name, missed, options: null, retained: retained(spent), ...(asked !== undefined && { asked }) },
});
const OPPOSED = {
  name: "dense",
  estimate: 0,
  low: 0,
  high: 0,
  pValue: 1,
  adjustedPValue: 1,
  smallestDetectable: null,
};
const against = { dense: { ...OPPOSED, verdict: "worse" as const } };
const row = (
  method: string,
  task: string,
  metric: string,
  value: number,
  mean: number,
  retained?: ComparedResult["retained"],
): ComparedResult => ({
  ...{ method, task, metric, value, mean, units: 50, standardError: 0.1, ...(retained && { retained }) },
  against: method === "dense" || metric === "kl" ? {} : against,
});
const pair = (
  task: string,
  method: string,
  other: string,
  verdict: ComparedPair["verdict"],
): ComparedPair => ({
  ...{ asked: 0.3, task, metric: "acc", method, other, verdict, estimate: 0, adjustedPValue: 0 },
});

const comparison = {
  methods: [
    method("dense", undefined, 1),
    method("key at 0.5", 0.5, 0.4),
    method("key at 0.3", 0.3, 0.7),
    method("value at 0.3", 0.3, 0.7, true),
  ],
  results: [
    row("dense", "perplexity", "perplexity", Math.exp(2), 2),
    row("key at 0.5", "perplexity", "perplexity", Math.exp(4), 4),
    row("key at 0.3", "perplexity", "perplexity", Math.exp(3), 3),
    row("value at 0.3", "perplexity", "perplexity", Math.exp(3), 3),
    row("dense", "perplexity", "kl", 0, 0),
    row("key at 0.3", "perplexity", "kl", 0.5, 0.5),
    row("dense", "piqa", "acc", 0.7, 0.7),
    row("key at 0.3", "piqa", "acc", 0.6, 0.6, {
      ...{ queries: 0.9, pairs: 0.8, attentionFlops: 0.6, cache: 0.9, projectionFlops: 0.5, parameters: 0.7 },
    }),
  ],
  pairs: [
    pair("piqa", "key at 0.3", "dense", "worse"),
    pair("piqa", "learned at 0.3", "key at 0.3", "better"),
    pair("piqa", "learned at 0.3", "dense", "no significant difference"),
    pair("boolq", "key at 0.3", "dense", "worse"),
    pair("boolq", "learned at 0.3", "key at 0.3", "worse"),
    { ...pair("boolq", "key at 0.5", "dense", "worse"), asked: 0.5 },
  ],
} as unknown as Comparison;

Deno.test("a metric against budgets: curves over requested ratios, ends through the metric's function, what missed left out", () => {
  const text = collectMethodBudgets(comparison);
  assertEquals(text.curves.map(({ name, points }) => [name, points.map(({ method }) => method)]), [
    ["key", ["key at 0.3", "key at 0.5"]],
  ]);
  const [first] = text.curves[0]!.points;
  assertAlmostEquals(first!.low, Math.exp(3 - 0.196));
  assertAlmostEquals(first!.high, Math.exp(3 + 0.196));
  assertEquals([text.dense, text.units, first!.retained.pairs], [Math.exp(2), 50, 0.7]);
  assertEquals(collectMethodBudgets(comparison, "perplexity", "kl").dense, undefined);
  // Items show the budgets of their own runs, not those of the text.
  const items = collectMethodBudgets(comparison, "piqa", "acc"), [point] = items.curves[0]!.points;
  assertEquals(point!.retained, {
    ...{ queries: 0.9, pairs: 0.8, attentionFlops: 0.6, cache: 0.9, projectionFlops: 0.5, parameters: 0.7 },
  });
  // Wilson's interval of 30 right of 50: of items, not of tokens.
  assertAlmostEquals(point!.low, 0.461814, 1e-6);
  assertAlmostEquals(point!.high, 0.723916, 1e-6);
  const { data, caption, layout } = plotMethodBudgets(items);
  assertEquals(data.map(({ visible, x, y }) => [visible, x, y]), [
    [false, [90], [60]],
    [true, [80], [60]],
    [false, [60], [60]],
    [false, [90], [60]],
    [false, [50], [60]],
    [false, [70], [60]],
  ]);
  // One point of each budget: an axis of ten points around it.
  assertEquals((layout.xaxis as { range: unknown }).range, [85, 75]);
  assertStringIncludes(caption, "Up and to the right is better");
  assertStringIncludes(caption, "over 50 items");
  assertStringIncludes(JSON.stringify(layout.shapes), '"y0":70');
  assertEquals(plotMethodBudgets(collectMethodBudgets({ ...comparison, results: [] })).data, []);
});

Deno.test("a metric whose values are far apart has a log axis, with no end below it", () => {
  const results = [
    row("dense", "perplexity", "perplexity", 20, Math.log(20)),
    row("key at 0.3", "perplexity", "perplexity", 21, Math.log(21)),
    row("key at 0.5", "perplexity", "perplexity", 900, Math.log(900)),
  ];
  const draw = (some: readonly ComparedResult[], metric = "perplexity") =>
    plotMethodBudgets(collectMethodBudgets({ ...comparison, results: some }, "perplexity", metric));
  const typeOf = (some: readonly ComparedResult[]) => (draw(some).layout.yaxis as { type?: string }).type;
  assertEquals([typeOf(results), typeOf(results.slice(0, 2))], ["log", undefined]);
  // An interval that reaches below 0 ends a factor below the least value, where it can still be drawn.
  const [curve] = draw([
    row("key at 0.3", "perplexity", "kl", 0.02, 0.02),
    row("key at 0.5", "perplexity", "kl", 6, 6),
  ], "kl").data;
  const { arrayminus } = curve!.error_y as { arrayminus: number[] };
  assertAlmostEquals(arrayminus[0]!, 0.02 - 0.02 / WIDE);
});

Deno.test("who beats whom: counts over tasks, seen from both sides, those that win most first", () => {
  const { asked, names, views } = collectMethodMatrix(comparison);
  assertEquals([asked, names], [0.3, ["dense", "learned", "key"]]);
  assertEquals(views.map(({ label }) => label), ["all tasks", "piqa", "boolq"]);
  const none = { better: 0, worse: 0 }, even = { better: 1, worse: 1 };
  assertEquals(views[0]!.counts, [
    [null, none, { better: 2, worse: 0 }],
    [none, null, even],
    [{ better: 0, worse: 2 }, even, null],
  ]);
  assertEquals(views[1]!.counts[2], [{ better: 0, worse: 1 }, { better: 0, worse: 1 }, null]);
  const { title, data } = plotMethodMatrix(collectMethodMatrix(comparison));
  assertEquals([title, data.length, data[0]!.z], ["Who beats whom, at 0.3", 3, [[null, 0, 1], [0, null, 0], [
    -1,
    0,
    null,
  ]]]);
  assertEquals(data[0]!.text, [["", "", "+2"], ["", "", "+1 −1"], ["−2", "+1 −1", ""]]);
  assertEquals(collectMethodMatrix(comparison, 0.5).names, ["dense", "key"]);
  // Controls stand apart, and a pair at unequal budgets is marked.
  const options = recordOptions(resolveOptions({ fusion: "random" }));
  const unequal = {
    ...pair("piqa", "key at 0.3", "dense", "worse"),
    unequal: { budget: "cache", more: 0.1 } as const,
  };
  const mixed = {
    ...comparison,
    methods: [...comparison.methods, {
      ...method("random at 0.3", 0.3, 0.7),
      options,
    }] as Comparison["methods"],
    pairs: [unequal, pair("piqa", "random at 0.3", "dense", "worse")],
  };
  const marked = collectMethodMatrix(mixed);
  assertEquals(marked.names, ["dense", "key"]);
  assertEquals(plotMethodMatrix(marked).data[0]!.text, [["", "+1 ≠"], ["−1 ≠", ""]]);
  assertEquals(plotMethodMatrix(collectMethodMatrix({ ...comparison, pairs: [] })).data, []);
});
