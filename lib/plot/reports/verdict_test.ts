import { assertAlmostEquals, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { type MethodOptions, recordOptions, resolveOptions } from "../../methods/bind/options.ts";
import type { Comparison } from "../../sweep/compare/comparison.ts";
import type { ComparedResult } from "../../sweep/compare/verdicts.ts";
import { makeSummary, makeTrial } from "../testing.ts";
import { collectVerdicts, describeComparison, describeVerdicts } from "./verdict.ts";

/** A trial at a ratio, of a given loss increase; standard errors are 0.01. */
const trial = (options: MethodOptions, loss: number, achieved = options.pruneRatio ?? 0.5) =>
  makeTrial({ pruneRatio: 0.5, ...options }, achieved, 40 * Math.exp(loss));

const controls = [
  trial({ fusion: "random", seed: 0 }, 0.58),
  trial({ fusion: "random", seed: 1 }, 0.62),
  trial({ fusion: "random", recent: 0 }, 0.9),
  trial({ fusion: "oracle" }, 0.2),
];

Deno.test("collectVerdicts() holds each rule against controls with its own options", () => {
  const summary = makeSummary([
    ...controls,
    trial({ fusion: "learned" }, 0.4),
    trial({ fusion: "learned", warmup: 16 }, 0.45), // another one of the same rule, worse, without control
    trial({ fusion: "variance", invert: true }, 0.59),
    trial({ fusion: "variance" }, 0.7),
    trial({ fusion: "key", recent: 0 }, 0.8), // better than its own control, which has its window
    trial({ fusion: "value", pruneRatio: 0.3 }, 0.1), // another ratio
    trial({ fusion: "mean" }, 0.1, 0.3), // missed the requested ratio
  ]);
  const [verdict, ...none] = collectVerdicts(summary);
  assertEquals([verdict!.asked, verdict!.side, none], [0.5, "query", []]);
  assertEquals(verdict!.methods.map(({ method, toBaseline }) => [method, toBaseline]), [
    ["learned", "better"],
    ["variance inverted", "even"],
    ["variance", "worse"],
    ["key", "better"],
  ]);
  const { estimate, low, high } = verdict!.methods[0]!.closed!;
  assertAlmostEquals(estimate, 0.5, 1e-9);
  // By hand: (0.01² + 0.5² 0.01² + 0.5² 0.01²) / 0.4², times 1.96.
  assertAlmostEquals(high - estimate, 1.96 * Math.sqrt(1.5e-4 / 0.16), 1e-9);
  assertAlmostEquals(estimate - low, high - estimate, 1e-12);
  assertEquals(verdict!.methods[3]!.closed, undefined); // no oracle with its window
  const [first, second, third] = describeVerdicts([verdict!], summary);
  assertEquals(
    first,
    "At 50% of queries skipped “learned” has the smallest loss increase of the online methods, random aside: " +
      "+0.400 [0.379, 0.421] nats per token (random: +0.600); perplexity 59.67, dense 40.00; retained: queries 75%, " +
      "pairs 75%, attn FLOPs 60%, KV cache 60%, time 80%; " +
      "it closes 50.0% [44.0%, 56.0%] of the way from the random baseline to the oracle.",
  );
  assertEquals(
    second,
    "Better than the random baseline: learned, key; no significant difference from it: variance inverted; " +
      "worse than it: variance.",
  );
  assertStringIncludes(third!, "95% intervals");
});

Deno.test("collectVerdicts() shares out no way that noise could be", () => {
  const rules = (oracle: number) =>
    collectVerdicts(makeSummary([
      trial({ fusion: "random" }, 0.6),
      trial({ fusion: "oracle" }, oracle),
      trial({ fusion: "learned" }, 0.55),
    ]))[0]!.methods[0]!.closed;
  // Two standard errors of 0.01: 1.96 * 0.01414 = 0.02772.
  assertEquals([rules(0.573), rules(0.572) === undefined], [undefined, false]);
});

Deno.test("describeVerdicts() names no winner among trials that tie, nor where random is better", () => {
  const first = (...trials: ReturnType<typeof trial>[]) => {
    const summary = makeSummary([trial({ fusion: "random" }, 0.5), ...trials]);
    return describeVerdicts(collectVerdicts(summary), summary)[0]!.replace(/: \+.*/, "");
  };
  assertEquals(
    first(trial({ fusion: "key" }, 0.4), trial({ fusion: "mean" }, 0.4)),
    "At 50% of queries skipped no method differs: all 2 lose the same",
  );
  assertEquals(
    first(trial({ fusion: "key" }, 0.7), trial({ fusion: "mean" }, 0.8)),
    "At 50% of queries skipped all 2 methods lose more than random, “key” the least",
  );
  // Block by block the losses of two made-up trials differ by the same; here every second block differs the other way.
  const apart = trial({ fusion: "mean" }, 0.41), { sums, sizes } = apart.lossBlocks!;
  const unsure = {
    ...apart,
    lossBlocks: { sums: sums.map((sum, i) => sum + (i % 2 === 0 ? 9 : -9)), sizes },
  };
  assertEquals(
    first(trial({ fusion: "key" }, 0.4), unsure),
    "At 50% of queries skipped no method differs significantly from “key”, which has the smallest loss increase",
  );
});

Deno.test("describeVerdicts() names the front of a search where every trial has a ratio of its own", () => {
  const trials = [0.2, 0.31, 0.42, 0.53].map((pruneRatio) =>
    trial({ fusion: "key", pruneRatio }, pruneRatio)
  );
  const summary = makeSummary(trials);
  type Search = NonNullable<typeof summary.search>;
  const search = { space: [], objectives: ["loss"], limits: { pairs: 0.8 } } as unknown as Search;
  const searched = { ...summary, search };
  const [first, best, last] = describeVerdicts(collectVerdicts(searched), searched);
  assertEquals(first, "The best of 4 trials by loss, each at its ratio:");
  assertStringIncludes(
    best!,
    "At 20% of queries skipped “key”: +0.200 [0.179, 0.221] nats per token; perplexity 48.86, dense",
  );
  assertStringIncludes(last!, "report it on another text");
  // With its random baseline, and the options that were searched.
  const control = trial({ fusion: "random", pruneRatio: 0.2 }, 0.3), [winner] = trials;
  const found = {
    ...search,
    space: [{ name: "recent", choices: [0, 16] }],
    winners: [{ trial: winner!.trial, control }],
  } as unknown as Search;
  const [, own] = describeVerdicts([], { ...summary, search: found });
  assertMatch(
    own!,
    /“key” \(recent \d+\): .* \(random: \+0\.300\); .*; minus random -0\.100 \[-0\.\d+, -?0\.\d+\]\.$/,
  );
  assertStringIncludes(describeVerdicts(collectVerdicts(summary), summary)[0]!, "At 53% of queries skipped");
});

Deno.test("describeVerdicts() says what is missing", () => {
  const alone = makeSummary([trial({ fusion: "learned" }, 0.4)]);
  assertEquals(describeVerdicts(collectVerdicts(alone), alone), [
    "At 50% of queries skipped “learned” is the only online method: +0.400 [0.379, 0.421] nats per token; perplexity 59.67, " +
    "dense 40.00; retained: queries 75%, pairs 75%, attn FLOPs 60%, KV cache 60%, time 80%.",
    "No control ran alike: add --method random and oracle, for a random baseline and an upper bound.",
  ]);
  const chanceOnly = makeSummary(controls);
  assertEquals(collectVerdicts(chanceOnly), []);
  assertStringIncludes(describeVerdicts([], chanceOnly)[0]!, "nothing to compare");
  const near = (achieved: number | null) =>
    collectVerdicts(makeSummary([makeTrial({ pruneRatio: 0.5 }, achieved, 50)]))[0];
  assertEquals([near(0.519)?.asked, near(0.521), near(null)], [0.5, undefined, undefined]);
});

Deno.test("describeComparison() names the best causal method, and which ones beat the random baseline", () => {
  const interval = (estimate: number) => ({ estimate, low: estimate - 0.1, high: estimate + 0.1 });
  const optionsOf = (options: MethodOptions) => recordOptions(resolveOptions(options));
  const method = (fusion: string, loss: number, more: Partial<Comparison["methods"][number]> = {}) => ({
    ...{
      name: fusion,
      options: fusion === "dense" ? null : optionsOf({ fusion } as MethodOptions),
      seeds: 1,
      achievedRatio: 0.5,
    },
    retained: {
      queries: 0.5,
      pairs: 0.25,
      attentionFlops: 0.75,
      cache: 0.6,
      projectionFlops: 0.7,
      parameters: 1,
    },
    ...{
      missed: false,
      kvAchievedRatio: null,
      labels: null,
      nonCausal: false,
      loss,
      seedLosses: [loss, loss] as const,
      lossBlocks: { sums: [loss], sizes: [1] },
      perplexity: Math.exp(loss),
    },
    ...{ lossIncrease: interval(loss - 1), toRandom: interval(loss - 2), toProtected: null, closed: null },
    ...more,
  });
  const { environment } = makeSummary([]);
  const compare = (methods: Comparison["methods"]) =>
    describeComparison({
      methods,
      environment,
      intervals: { confidence: 0.95, blockSize: 64, resamples: 9, seed: 0 },
    });
  const learned = method("learned", 1.5, { closed: { estimate: 0.5, low: 0.4, high: 0.6 } });
  const methods = [
    method("dense", 1),
    method("mean", 1.1, { missed: true }),
    method("variance", 1.1, { name: "keys", options: optionsOf({ preset: "keys" }) }), // skips no query
    method("oracle", 1.2, { nonCausal: true }),
    learned,
    method("variance", 1.95),
    method("random", 2, { toRandom: null }),
    method("key", 2.2),
  ];
  assertEquals(compare(methods), [
    "At 50% of queries skipped “learned” has the smallest loss increase of the online methods, random aside: +0.500 [0.400, 0.600] nats per " +
    "token (minus random: -0.500 [-0.600, -0.400]), retained: queries 50%, pairs 25%, attn FLOPs 75%, KV cache 60%; it closes 50.0% [40.0%, 60.0%] of the way from its random to its oracle.",
    "Better than the random baseline: learned; no significant difference from it: variance; worse than it: key.",
    "At 50% of keys and values evicted, and every attention computed, “keys” is the only online method: " +
    "+0.100 [0.000, 0.200] nats per token (minus random: -0.900 [-1.000, -0.800]), retained: queries 50%, pairs 25%, attn FLOPs 75%, KV cache 60%.",
    "Better than the random baseline: keys.",
  ]);
  assertEquals(compare([method("key", 2.2, { toRandom: null })]), [
    "At 50% of queries skipped “key” is the only online method: +1.200 [1.100, 1.300] nats per " +
    "token, retained: queries 50%, pairs 25%, attn FLOPs 75%, KV cache 60%.",
  ]);
  assertStringIncludes(compare(methods.slice(0, 2))[0]!, "No online method reached");
  const said = (
    fusions: readonly [fusion: string, loss: number, toRandom: number][],
    pairs: readonly (readonly [method: string, other: string, verdict: string])[] = [],
  ) => {
    const ran = fusions.map(([fusion, loss, less]) => method(fusion, loss, { toRandom: interval(less) }));
    const tested = pairs.map(([method, other, verdict]) => ({ task: "perplexity", method, other, verdict }));
    const comparison = { methods: [method("dense", 1), ...ran], environment, pairs: tested };
    return describeComparison(comparison as unknown as Comparison)
      .map((line) => line.replace(/: \+.*/, "").replace("At 50% of queries skipped ", ""));
  };
  const even = "no significant difference";
  assertEquals(said([["key", 1, 0], ["mean", 1, 0], ["value", 1, 0]]), [
    "no method differs: all 3 lose the same",
    "No significant difference from the random baseline: key, mean, value.",
  ]);
  const close = [["key", 1.1, 0], ["mean", 1.2, 0], ["value", 1.9, 0.5]] as const;
  const worse = ["value", "key", "worse"] as const;
  assertEquals(
    said([...close.map((own) => [...own] as [string, number, number])], [["mean", "key", even], worse]),
    [
      "“key” has the smallest loss increase of the online methods, random aside",
      "Not significantly different from “key”: mean.",
      "No significant difference from the random baseline: key, mean; worse than it: value.",
    ],
  );
  assertEquals(
    said([["key", 1.1, 0], ["mean", 1.2, 0]], [["mean", "key", even]])[0],
    "no method differs significantly from “key”, which has the smallest loss increase",
  );
  assertEquals(said([["key", 1.5, 0.5], ["mean", 1.6, 0.6]], [["mean", "key", "worse"]]), [
    "all 2 methods lose more than random, “key” the least",
    "Worse than the random baseline: key, mean.",
  ]);
  assertEquals(said([["key", 1.5, 0.5]])[0], "“key” loses more than random");
  assertEquals(
    said([["key", 1.5, 0.5], ["mean", 1.6, -0.6]])[0],
    "“key” has the smallest loss increase of the online methods, random aside, but loses more than random",
  );
});

Deno.test("describeComparison() takes its verdicts from the results, says whose budgets are unequal, and what items say", () => {
  const interval = (estimate: number) => ({ estimate, low: estimate - 0.01, high: estimate + 0.01 });
  const retained = {
    queries: 1,
    pairs: 0.7,
    attentionFlops: 0.9,
    cache: 0.6,
    projectionFlops: 1,
    parameters: 1,
  };
  const matched = { budget: "cache", asked: 0.5, ratio: 0.5, target: 0.6 } as const;
  const method = (name: string, options: MethodOptions | null, loss: number, reached = true) => ({
    ...{
      name,
      options: options && recordOptions(resolveOptions(options)),
      seeds: 1,
      achievedRatio: null,
      retained,
    },
    ...{
      missed: false,
      kvAchievedRatio: 0.5,
      labels: null,
      nonCausal: false,
      loss,
      seedLosses: [loss, loss] as const,
    },
    ...{ lossBlocks: { sums: [loss], sizes: [1] }, perplexity: Math.exp(loss), closed: null },
    ...{ lossIncrease: interval(loss - 1), toRandom: interval(-0.1), toProtected: interval(0.01) },
    ...(options && { matched: { ...matched, reached } }),
  });
  const opposed = { estimate: 0, low: 0, high: 0, pValue: 1, adjustedPValue: 1, smallestDetectable: null };
  const row = (
    method: string,
    task: string,
    metric: string,
    more: Partial<ComparedResult> = {},
  ): ComparedResult => ({
    ...{ method, task, metric, units: 50, value: 0.74, mean: 0.74, standardError: 0.06, against: {} },
    ...more,
  });
  const side = "key", unequal = { budget: "cache", more: 0.16 } as const;
  const comparison = {
    environment: makeSummary([]).environment,
    intervals: { confidence: 0.95, blockSize: 64, resamples: 9, seed: 0 },
    methods: [
      method("dense", null, 1),
      method("keys", { preset: "keys" }, 1.05),
      method("snapkv", { side, kvFusion: "snapkv" }, 1.06),
      method("tova", { side, kvFusion: "tova" }, 1.2, false),
      method("random for keys", { side, fusion: "random" }, 1.02),
    ],
    results: [
      // Significant against random-protected; the interval is against plain random.
      row("keys", "perplexity", "perplexity", {
        against: {
          random: { ...opposed, name: "random-protected for keys", verdict: "no significant difference" },
        },
      }),
      row("tova", "perplexity", "perplexity", {
        against: {
          random: { ...opposed, name: "random for keys", verdict: "worse" },
          bestOther: { ...opposed, name: "keys", verdict: "worse", unequal },
        },
      }),
      row("dense", "piqa", "acc"),
      row("keys", "piqa", "acc", { reach: { missedKeys: 0.01, ownSkips: 0, identical: 0.92 } }),
      row("snapkv", "piqa", "acc", {
        against: { dense: { ...opposed, name: "dense", verdict: "worse" } },
        reach: { missedKeys: 0.2, ownSkips: 0, identical: 0.4 },
      }),
    ],
  };
  assertEquals(describeComparison(comparison as unknown as Comparison), [
    "At equal KV cache, 60% of the full model (requested: 50% of keys and values), “keys” has the smallest loss increase of the online " +
    "methods, random aside: +0.050 [0.040, 0.060] nats per token (minus random-protected: +0.010 [0.000, 0.020]), retained: queries 100%, pairs 70%, attn FLOPs 90%, KV cache 60%.",
    "No significant difference from the random baseline (random-protected, random): keys, snapkv; worse than it: tova.",
    "No ratio gives them the budget of the others, so they ran at the one asked for: tova (KV cache 60%, not 60%).",
    "Compared at unequal budgets: tova to keys (KV cache +16 points).",
    "piqa, 50 items, dense 74.0%: worse than the full model: snapkv.",
    "Of these 50 items methods changed few: keys 4; the others are the full model's.",
  ]);
  const [none, all] = [0, 1].map((value) =>
    describeComparison(
      { ...comparison, results: [row("dense", "piqa", "acc", { value })] } as unknown as Comparison,
    )
      .at(-1)
  );
  assertEquals(none, "The full model scores 0.0% on piqa: no method can lose an answer there.");
  assertEquals(all, "The full model scores 100.0% on piqa: no method can gain an answer there.");
});
