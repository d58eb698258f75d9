import { assertAlmostEquals, assertEquals, assertStringIncludes } from "@std/assert";
import { type MethodOptions, recordOptions, resolveOptions } from "../../../methods/bind/options.ts";
import type { PerplexityTypes } from "../../../eval/tasks/mod.ts";
import type { ComparedMethod, Comparison } from "../../../sweep/compare/comparison.ts";
import { collectComparison, describeIntervals, formatInterval, plotComparison } from "./comparison.ts";
import type { Matched } from "../../../sweep/compare/match.ts";
import { plotComparisons, renderComparisonReport, tabulateComparison } from "../../reports/comparison.ts";
import { tabulatePairs } from "../../reports/pairs_table.ts";
import { tabulatePaper } from "../../reports/paper_table.ts";
import { describeOpposed, tabulateResults } from "../../reports/results.ts";
import { makeSummary } from "../../testing.ts";

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
  retained: {
    queries: 0.5,
    pairs: 0.25,
    attentionFlops: 0.75,
    cache: 0.6,
    projectionFlops: 0.7,
    parameters: 1,
  },
  missed: false,
  nonCausal: false,
  loss,
  perplexity: Math.exp(loss),
  seedLosses: [loss, loss],
  lossBlocks: { sums: [loss], sizes: [1] },
  lossIncrease: interval(loss - 1),
  toRandom: interval(loss - 2),
  toProtected: null,
  closed: null,
  ...more,
});
const comparison: Comparison = {
  methods: [
    method("dense", 1, { lossIncrease: null, toRandom: null, achievedRatio: 0 }),
    method("oracle", 1.25, { nonCausal: true }),
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
      "+0.2500 [0.0000, 0.7500] loss increase, nats",
      "loss 1.2500, perplexity 3.49",
      "queries skipped 0.500",
      "retained: queries 50%, pairs 25%, attn FLOPs 75%, KV cache 60%",
      "non-causal: an upper bound",
    ],
    [
      "<b>learned</b>",
      "+0.5000 [0.2500, 1.0000] loss increase, nats",
      "loss 1.5000, perplexity 4.48",
      "queries skipped 0.500",
      "retained: queries 50%, pairs 25%, attn FLOPs 75%, KV cache 60%",
      "closes 50.0% [25.0%, 75.0%] of the gap from its random to its oracle",
    ],
    [
      "<b>random</b>, mean over 5 seeds",
      "+1.0000 [0.7500, 1.5000] loss increase, nats",
      "loss 2.0000, perplexity 7.39",
      "queries skipped 0.500",
      "retained: queries 50%, pairs 25%, attn FLOPs 75%, KV cache 60%",
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
  const { intervals } = comparison,
    keys = { ...comparison.methods[1]!, options: recordOptions(resolveOptions({ preset: "keys" })) };
  const described = (more: object, methods = [keys]) =>
    describeIntervals({ ...comparison, methods, intervals: { ...intervals, ...more } });
  const blocks = "95% intervals over 2000 resamples of blocks of 64 tokens";
  assertEquals(described({}, []), blocks);
  assertEquals(
    described({ wholeChunks: true }),
    `${blocks}; of methods that evict by Student's t over whole chunks`,
  );
  assertStringIncludes(described({}), "too narrow for methods that evict");
  const { environment } = comparison;
  assertStringIncludes(
    describeIntervals({ ...comparison, environment: { ...environment, task: "needle" } }),
    "of fractions of items by Tango's score",
  );
  const empty = plotComparison({
    base: "random",
    unit: "nats per token",
    rows: [],
    intervals: "95% intervals",
  });
  assertStringIncludes(JSON.stringify(empty.layout), "compare with");
});

const OPPOSED = { estimate: 0, low: 0, high: 0, pValue: 1, adjustedPValue: 1, smallestDetectable: null };

Deno.test("tabulateComparison() and renderComparisonReport() hold every method", () => {
  const { columns, rows, hints } = tabulateComparison(comparison);
  const keys = { ...comparison.methods[1]!, kvAchievedRatio: 0.7512 };
  const withKeys = tabulateComparison({ ...comparison, methods: [...comparison.methods.slice(0, 1), keys] });
  assertEquals([withKeys.columns[2], withKeys.hints.length, withKeys.columns.length], ["KV evicted", 17, 17]);
  const labelled = tabulateComparison({
    ...comparison,
    methods: comparison.methods.map((method, i) => i === 0 ? { ...method, labels: "query-aware" } : method),
  });
  const place = labelled.columns.indexOf("labels");
  assertEquals(labelled.rows.slice(0, 2).map((row) => row[place]), ["query-aware", "-"]);
  const ratio = (matched: Partial<Matched>) =>
    tabulateComparison({
      ...comparison,
      methods: [{
        ...keys,
        matched: { budget: "cache", asked: 0.5, ratio: 0.5, target: 0.6, reached: true, ...matched },
      }],
    }).rows[0]![8];
  assertEquals([ratio({}), ratio({ ratio: 0.4873 })], ["=", "0.4873"]);
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
    random: { ...OPPOSED, name: "random", verdict: "better" },
    bestOther: { ...OPPOSED, name: "key", verdict: "no significant difference" },
  } as const;
  const unequal = { budget: "cache", more: 0.0412 } as const;
  const worse = {
    method: "x",
    against: { bestOther: { ...OPPOSED, name: "key", verdict: "worse", unequal } },
  } as const;
  assertEquals(describeOpposed(worse, "bestOther"), "worse than key (unequal: KV cache +4.1 points)");
  const row = {
    retained: comparison.methods[3]!.retained,
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
  const tested = tabulateComparison({ ...comparison, results }).rows[3]!;
  assertEquals(tested.slice(-3), ["better", "no significant difference from key", "-"]);
  const learned = ["learned", "perplexity"], spent = ["25%", "60%"], rest = ["9", "70%", "100%"];
  assertEquals(tabulateResults({ ...comparison, results }).rows, [
    [
      ...learned,
      "ppl",
      "4.48 ±0.45",
      ...spent,
      "better",
      "no significant difference from key",
      "-",
      "-",
      "-",
      ...rest,
    ],
    [...learned, "KL", "4.4800", ...spent, "-", "-", "-", "-", "-", ...rest],
  ]);
  const reach = { missedKeys: 0.9, ownSkips: 0.25, identical: 0.92 };
  const reached = tabulateResults({ results: results.map((row) => ({ ...row, reach })) });
  const cells = ["identical", "missed keys", "own"].map((name) => reached.columns.indexOf(name));
  assertEquals(cells.map((column) => reached.rows[1]![column]), ["92%", "90%", "25%"]);
  assertEquals([rows[2]![0], rows[1]![0]], ["random (5 seeds)", "oracle ^"]);
  const html = renderComparisonReport(comparison, { plotly: "0" });
  assertEquals(html.match(/<tr[ >]/g)!.length, 5);
  assertStringIncludes(html, "Methods compared: fake on numbers &lt;1&gt;");
});

Deno.test("comparisons show the fair control, and say loudly what missed the requested ratio", () => {
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
  assertStringIncludes(rows.rows.at(-1)!.hover, "queries skipped 0.000, not the requested ratio");
  assertStringIncludes(
    caption,
    "THE LAST 1: ! = skipped more than 2 points more or fewer queries than requested",
  );
  assertEquals(plotComparison(collectComparison(comparison, "dense")).caption.includes("!"), false);
  const table = tabulateComparison(more).rows;
  assertEquals([table[4]![11], table[5]![1]], ["-0.2500 [-0.5000, 0.2500]", "0.000 !"]);
  // A page has one random baseline: the fair one where that ran.
  const titles = (own: Comparison) =>
    plotComparisons(own).map(({ title, caption }) => `${title}: ${caption}`);
  const fairOnes = titles(more).filter((title) => title.startsWith("Better or worse"));
  assertEquals([fairOnes.length, fairOnes[0]!.includes("(random-protected with the same options)")], [
    1,
    true,
  ]);
  assertEquals(
    titles(comparison).filter((title) => title.includes("(random with the same options)")).length,
    1,
  );
});

Deno.test("plotComparisons() has differences first, and no plot against a budget that was matched within a point", () => {
  const titles = (more: number) => {
    const methods = comparison.methods.map((own, i) => ({
      ...own,
      ...{ asked: 0.5, retained: { ...own.retained, cache: i === 3 ? 0.6 + more : 0.6 } },
      matched: { budget: "cache", asked: 0.5, ratio: 0.5, target: 0.6, reached: true } as const,
    }));
    const row = { task: "perplexity", metric: "perplexity", units: 9, value: 2, mean: 1, standardError: 0.1 };
    const results = methods.map(({ name }) => ({ ...row, method: name, against: {} }));
    return plotComparisons({ ...comparison, methods, results }).map(({ title }) => title);
  };
  const differences = ["Loss increase of each method", "Better or worse than the random baseline"];
  assertEquals(titles(0.009), differences);
  assertEquals(titles(0.011), [...differences, "perplexity: ppl against what is spent"]);
});

Deno.test("plotComparison() has a log axis where methods are far apart, and draws no end below it", () => {
  const methods = [["keys", 1.05], ["snapkv", 1.06], ["paper", 5]].map(([name, loss]) =>
    method(name as string, loss as number)
  );
  const { data, layout, caption } = plotComparison(collectComparison({ ...comparison, methods }, "dense"));
  assertEquals((layout.xaxis as { type?: string }).type, "log");
  const keys = data.at(-1)!, { arrayminus } = keys.error_x as unknown as { arrayminus: number[] };
  assertAlmostEquals(arrayminus[0]!, 0.025, 1e-9); // half of the least, not 0.25 below it
  assertStringIncludes(caption, "Log scale");
  const near = plotComparison(collectComparison(comparison, "dense")).layout;
  assertEquals((near.xaxis as { type?: string }).type, undefined);
});

Deno.test("tabulatePaper() has methods down, tasks across, their mean, and the best of each column in bold", () => {
  const optionsOf = (options: MethodOptions) => recordOptions(resolveOptions(options));
  const methods = [
    method("dense", 1, { options: null }),
    method("random", 2, { options: optionsOf({ fusion: "random" }) }),
    method("key", 1.5, { options: optionsOf({ fusion: "key" }) }),
    method("mean", 1.25, { options: optionsOf({ fusion: "mean" }) }),
  ];
  const rows = (task: string, metric: string, values: readonly number[]) =>
    values.map((value, i) => ({
      ...{ method: methods[i]!.name, task, metric, units: 9, value, standardError: null, against: {} },
      mean: metric === "perplexity" ? Math.log(value) : value,
    }));
  const results = [
    ...rows("perplexity", "perplexity", [10, 5, 20, 15]),
    ...rows("perplexity", "kl", [0, 1, 1, 1]),
    ...rows("piqa", "acc", [0.8, 0.9, 0.6, 0.5]),
    ...rows("arc_easy", "acc", [0.6, 0.3, 0.4, 0.45]),
  ];
  const { columns, rows: cells } = tabulatePaper({ methods, results });
  assertEquals(columns, [
    "method",
    "pairs",
    "KV cache",
    "perplexity",
    "piqa acc",
    "arc_easy acc",
    "mean",
  ]);
  assertEquals(cells, [
    ["dense", "25%", "60%", "10.00", "80.0%", "60.0%", "70.0%"],
    ["key", "25%", "60%", "20.00", "**60.0%**", "40.0%", "**50.0%**"],
    ["mean", "25%", "60%", "**15.00**", "50.0%", "**45.0%**", "47.5%"],
    ["random", "25%", "60%", "5.00", "90.0%", "30.0%", "60.0%"],
  ]);
  const errors = results.map((row) => ({ ...row, standardError: 0.03 }));
  assertEquals(tabulatePaper({ methods, results: errors }).rows[0]!.at(-1), "70.0% ±2.1");
  assertEquals(tabulatePaper({ methods, results: results.slice(0, 8) }).columns.length, 4);
  // The difference of two methods over both tasks: half widths 0.05 and 0.12 give hypot / 2 = 0.065.
  const pair = {
    method: "key",
    other: "dense",
    adjustedPValue: 0.5,
    verdict: "no significant difference" as const,
  };
  const pairs = [
    { ...pair, task: "piqa", metric: "acc", estimate: -0.2, low: -0.25, high: -0.15 },
    { ...pair, task: "arc_easy", metric: "acc", estimate: -0.1, low: -0.22, high: 0.02 },
    { ...pair, task: "perplexity", metric: "perplexity", estimate: 0.1, low: 0, high: 0.2 },
  ];
  assertEquals(tabulatePairs([{ pairs, results }])!.rows.map((cells) => cells.slice(0, 5)).at(-1), [
    ...["key", "dense", "mean of 2 tasks", "-15.0 [-21.5, -8.5]", "-"],
  ]);
  assertEquals(tabulatePairs([{ pairs: pairs.slice(1), results }])!.rows.length, 2);
  // Where all are alike none is the best; marks are those of the random baseline.
  const judged = rows("piqa", "acc", [0.5, 0.5, 0.5, 0.5]).map((row, i) => ({
    ...row,
    against: [{}, {}, { random: { verdict: "better" } }, { random: { verdict: "worse" } }][i] as never,
  }));
  const marked = tabulatePaper([{
    methods,
    results: judged,
    label: "PIQA",
    published: new Map([["their", "70"]]),
  }]);
  assertEquals(marked.columns.at(-1), "PIQA acc");
  assertEquals(marked.rows.map((cells) => cells.at(-1)), ["50.0%", "50.0%†", "50.0%‡", "50.0%", "70"]);
  // The best of a ratio is not bold where random is better.
  const beaten = judged.map((row, i) => i === 3 ? { ...row, value: 0.6 } : row);
  assertEquals(
    tabulatePaper({ methods, results: beaten }).rows.map((cells) => cells.at(-1)),
    ["50.0%", "50.0%†", "60.0%‡", "50.0%"],
  );
});
