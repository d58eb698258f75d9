import { assertEquals, assertStringIncludes } from "@std/assert";
import type { PerplexityTypes } from "../../eval/tasks/mod.ts";
import type { ComparedMethod, Comparison } from "../../sweep/compare/comparison.ts";
import { collectComparison, formatInterval, plotComparison } from "./comparison.ts";
import { renderComparisonReport, tabulateComparison } from "../reports/comparison.ts";
import { tabulateResults } from "../reports/results.ts";
import { makeSummary } from "../testing.ts";

const interval = (estimate: number) => ({ estimate, low: estimate - 0.25, high: estimate + 0.5 });
const method = (
  name: string,
  loss: number,
  more: Partial<ComparedMethod> = {},
): ComparedMethod<PerplexityTypes> => ({
  name,
  options: null,
  labels: null,
  seeds: 1,
  achievedRatio: 0.5,
  kvAchievedRatio: null,
  shares: { queries: 0.5, pairs: 0.25, attentionFlops: 0.75, rows: 0.6, projectionFlops: 0.7, parameters: 1 },
  missed: false,
  looksAhead: false,
  loss,
  perplexity: Math.exp(loss),
  seedLosses: [loss, loss],
  lossBlocks: { sums: [loss], sizes: [1] },
  toDense: interval(loss - 1),
  toRandom: interval(loss - 2),
  toProtected: null,
  closed: null,
  ...more,
});
const comparison: Comparison = {
  methods: [
    method("dense", 1, { toDense: null, toRandom: null, achievedRatio: 0 }),
    method("oracle", 1.25, { looksAhead: true }),
    method("random", 2, { toRandom: null, seeds: 5 }),
    method("learned", 1.5, { closed: { estimate: 0.5, low: 0.25, high: 0.75 } }),
  ],
  intervals: { confidence: 0.95, blockSize: 64, resamples: 2000, seed: 0 },
  environment: makeSummary([]).environment,
};

Deno.test("collectComparison() takes the methods that have a difference, best first", () => {
  const rows = (base: "dense" | "random") =>
    collectComparison(comparison, base).rows.map(({ name, difference }) => [name, difference.estimate]);
  assertEquals(rows("dense"), [["oracle", 0.25], ["learned", 0.5], ["random", 1]]);
  assertEquals(rows("random"), [["oracle", -0.75], ["learned", -0.5]]);
  assertEquals(collectComparison(comparison, "dense").rows.map(({ hover }) => hover.split("<br>")), [
    [
      "<b>oracle</b>",
      "+0.2500 [0.0000, 0.7500] nats above dense",
      "loss 1.2500, perplexity 3.49",
      "queries skipped 0.500",
      "of dense: queries 50%, pairs 25%, attn FLOPs 75%, KV held 60%",
      "looks ahead: an upper bound",
    ],
    [
      "<b>learned</b>",
      "+0.5000 [0.2500, 1.0000] nats above dense",
      "loss 1.5000, perplexity 4.48",
      "queries skipped 0.500",
      "of dense: queries 50%, pairs 25%, attn FLOPs 75%, KV held 60%",
      "closes 50.0% [25.0%, 75.0%] of the gap from its random to its oracle",
    ],
    [
      "<b>random</b>, mean over 5 seeds",
      "+1.0000 [0.7500, 1.5000] nats above dense",
      "loss 2.0000, perplexity 7.39",
      "queries skipped 0.500",
      "of dense: queries 50%, pairs 25%, attn FLOPs 75%, KV held 60%",
    ],
  ]);
});

Deno.test("formatInterval() gives a sign to the estimate, and none to what rounds to zero", () => {
  assertEquals(formatInterval({ estimate: 0.82, low: -0.794, high: 0.845 }, 2), "+0.82 [-0.79, 0.84]");
  assertEquals(formatInterval({ estimate: -1e-9, low: -0.04, high: 0.05 }, 1), "+0.0 [0.0, 0.1]");
  assertEquals(formatInterval({ estimate: -0.5, low: -10, high: 0 }, 1), "-0.5 [-10.0, 0.0]");
});

Deno.test("plotComparison() draws a mark with its interval a method, the best on top", () => {
  const { data, caption } = plotComparison(collectComparison(comparison, "dense"));
  assertEquals(data.map(({ name }) => name), ["random", "learned", "oracle"]);
  const bar = data[1]!.error_x as Record<string, unknown>;
  assertEquals([data[1]!.x, bar.array, bar.arrayminus], [[0.5], [0.5], [0.25]]);
  assertEquals(data.map(({ y }) => y), [["random"], ["learned"], ["oracle ^"]]);
  assertStringIncludes(caption, "95% intervals");
  const empty = plotComparison({ base: "random", unit: "nats a token", rows: [], confidence: 0.95 });
  assertStringIncludes(JSON.stringify(empty.layout), "hold against");
});

const OPPOSED = { estimate: 0, low: 0, high: 0, pValue: 1, adjustedPValue: 1, smallestDetectable: null };

Deno.test("tabulateComparison() and renderComparisonReport() hold every method", () => {
  const { columns, rows, hints } = tabulateComparison(comparison);
  const keys = { ...comparison.methods[1]!, kvAchievedRatio: 0.7512 };
  const withKeys = tabulateComparison({ ...comparison, methods: [...comparison.methods.slice(0, 1), keys] });
  assertEquals([withKeys.columns[2], withKeys.hints.length, withKeys.columns.length], ["KV dropped", 17, 17]);
  assertEquals(withKeys.rows.map((row) => row[2]), ["-", "0.751"]);
  assertEquals([columns.length, hints.length], [16, 16]);
  assertEquals(rows[3], [
    "learned",
    "0.500",
    "25%",
    "75%",
    "60%",
    "70%",
    "100%",
    "1.5000",
    "4.48",
    "+0.5000 [0.2500, 1.0000]",
    "-0.5000 [-0.7500, 0.0000]",
    "-",
    "50.0% [25.0%, 75.0%]",
    "-",
    "-",
    "-",
  ]);
  const against = {
    control: { ...OPPOSED, name: "random", verdict: "better" },
    rival: { ...OPPOSED, name: "key", verdict: "not told apart" },
  } as const;
  const row = {
    method: "learned",
    task: "perplexity",
    metric: "perplexity",
    units: 9,
    value: 4.48,
    mean: 1.5,
  };
  const results = [{ ...row, standardError: 0.1, against }, {
    ...row,
    metric: "kl",
    standardError: null,
    against: {},
  }];
  const judged = tabulateComparison({ ...comparison, results }).rows[3]!;
  assertEquals(judged.slice(-3), ["better", "not told apart from key", "-"]);
  assertEquals(tabulateResults({ ...comparison, results }).rows, [
    [
      "learned",
      "perplexity",
      "ppl",
      "9",
      "4.48 ±0.100",
      ...["25%", "60%", "70%", "100%"],
      "-",
      "-",
      "better",
      "not told apart from key",
      "-",
      "-",
      "-",
    ],
    [
      "learned",
      "perplexity",
      "KL",
      "9",
      "4.4800",
      "25%",
      "60%",
      "70%",
      "100%",
      "-",
      "-",
      "-",
      "-",
      "-",
      "-",
      "-",
    ],
  ]);
  const meanReach = { missedKeys: 0.9, ownFiltered: 0.5, ownSkips: 0.25 };
  const items = { tasks: [], budgets: [{ method: "learned", task: "perplexity", meanReach }] };
  const reached = tabulateResults({
    ...comparison,
    results,
    items: items as unknown as Comparison["items"] & object,
  });
  assertEquals(reached.rows.map((row) => row.slice(-2)), [["90%", "25%"], ["90%", "25%"]]);
  assertEquals([rows[2]![0], rows[1]![0]], ["random (5 seeds)", "oracle ^"]);
  const html = renderComparisonReport(comparison, { plotly: "0" });
  assertEquals(html.match(/<tr[ >]/g)!.length, 5);
  assertStringIncludes(html, "Methods compared: fake on numbers &lt;1&gt;");
});

Deno.test("comparisons show the fair control, and say loudly what missed the asked ratio", () => {
  const constant = method("constant", 1, { missed: true, achievedRatio: 0, toRandom: null });
  const fair = method("random-protected for paper", 1.75, { toProtected: interval(-0.25) });
  const more = { ...comparison, methods: [...comparison.methods, fair, constant] };
  const names = (base: "random" | "random-protected" | "dense") =>
    collectComparison(more, base).rows.map(({ name, missed }) => [name, missed]);
  assertEquals(names("dense").at(-1), ["constant", true]);
  assertEquals(names("random").map(([name]) => name).includes("constant"), false);
  assertEquals(names("random-protected"), [["random-protected for paper", false]]);
  const rows = collectComparison(more, "dense"), { data, caption } = plotComparison(rows);
  assertEquals([data[0]!.y, (data[2]!.marker as { symbol: string }).symbol], [["constant !"], "bowtie"]);
  assertStringIncludes(rows.rows.at(-1)!.hover, "queries skipped 0.000, not what was asked");
  assertStringIncludes(
    caption,
    "THE LAST 1: ! = skipped more than 2 points more or fewer queries than asked",
  );
  assertEquals(plotComparison(collectComparison(comparison, "dense")).caption.includes("!"), false);
  const table = tabulateComparison(more).rows;
  assertEquals([table[4]![11], table[5]![1]], ["-0.2500 [-0.5000, 0.2500]", "0.000 !"]);
  assertStringIncludes(renderComparisonReport(more, { plotly: "0" }), "chance that protects large values");
});
