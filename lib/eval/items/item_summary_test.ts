import { assertAlmostEquals, assertEquals } from "@std/assert";
import { ACC, ACC_NORM, ITEM_PERPLEXITY } from "./item_metrics.ts";
import type { ItemScore } from "./item_scorer.ts";
import { budgetOf, isIdentical, reachesNothing, tabulateItems } from "./item_summary.ts";
import { type Item, requestOf } from "./item.ts";

const USAGE = Object.fromEntries(["queriesDense", "queriesSkipped"].map((key) => [key, 5])) as never;
const score = (logLikelihoods: number[], more: Partial<ItemScore> = {}): ItemScore => ({
  ...{ logLikelihoods, greedy: logLikelihoods.map(() => false) },
  reach: { positions: 4, missedKeys: 0, ownFiltered: 0, ownSkips: 0 },
  skips: { tokens: 10, decided: 8, skippedPerLayer: [0, 0], early: 0 },
  usage: USAGE,
  ...more,
});
const items = (golds: number[]): Pick<Item, "requests" | "gold">[] =>
  golds.map((gold) => ({ requests: [requestOf("q", "long one"), requestOf("q", "b")], gold }));
const right = score([-1, -2]), wrong = score([-2, -1]);

Deno.test("tabulateItems(): means with the sample's standard error, pairs by McNemar, p values adjusted over the table", () => {
  const all = items(Array(12).fill(0)), dense = all.map((_, i) => i < 11 ? right : wrong);
  const filtered = all.map((_, i) => i < 2 || i === 11 ? right : wrong); // loses 9, gains 1
  const task = { name: "a", metrics: [ACC, ACC_NORM] as const };
  const same = { name: "b", metrics: [ITEM_PERPLEXITY] as const };
  const [acc, norm, perplexity] = tabulateItems([
    { task, items: all, dense, filtered },
    { task: same, items: all, dense, filtered: dense },
  ]);
  assertEquals([acc!.task, acc!.metric, acc!.items], ["a", "acc", 12]);
  assertAlmostEquals(acc!.dense.value, 11 / 12, 1e-12);
  assertAlmostEquals(acc!.dense.standardError!, Math.sqrt(11 / 12 / 12 / 11), 1e-12); // sqrt(p(1-p)/(n-1))
  const { estimate, low, high, gained, lost, pValue, adjustedPValue, verdict, smallestDetectable } = acc!
    .difference!;
  assertAlmostEquals(estimate, -8 / 12, 1e-12);
  assertEquals([gained, lost, low < estimate, high < 0, verdict], [1, 9, true, true, "worse"]);
  // Tango's score interval of 1 gained and 9 lost of 12.
  assertAlmostEquals(low, -0.8835703, 1e-6);
  assertAlmostEquals(high, -0.1648757, 1e-6);
  assertAlmostEquals(pValue, (2 * 1 + 10) / 1024, 1e-12);
  assertAlmostEquals(adjustedPValue, 3 * pValue, 1e-12); // the other two rows do not differ
  const sd = Math.sqrt((9 * (1 / 3) ** 2 + (5 / 3) ** 2 + 2 * (2 / 3) ** 2) / 11); // of -1 nine times, +1, 0 twice
  assertAlmostEquals(
    smallestDetectable!,
    (1.959963984540054 + 0.8416212335729143) * sd / Math.sqrt(12),
    1e-12,
  );
  // By character "b" wins: -1/8 > -2 loses to none, -2/8 > -1.
  assertEquals([norm!.metric, norm!.dense.value, norm!.difference!.verdict], [
    "acc_norm",
    1,
    "no significant difference",
  ]);
  assertAlmostEquals(perplexity!.dense.value, Math.exp((11 + 2) / 12), 1e-12);
  assertEquals([
    perplexity!.difference!.pValue,
    perplexity!.difference!.estimate,
    perplexity!.difference!.gained,
  ], [
    1,
    0,
    undefined,
  ]);
});

Deno.test("tabulateItems(): which way is better is the metric's", () => {
  const all = items(Array(20).fill(0)), task = { name: "a", metrics: [ITEM_PERPLEXITY, ACC] as const };
  const run = (dense: ItemScore, filtered: ItemScore) =>
    tabulateItems([{ task, items: all, dense: all.map(() => dense), filtered: all.map(() => filtered) }])
      .map(({ difference }) => difference!.verdict);
  assertEquals(run(right, wrong), ["worse", "worse"]);
  assertEquals(run(wrong, right), ["better", "better"]);
  const [row] = tabulateItems([{ task, items: all, dense: all.map(() => right) }]);
  assertEquals([row!.filtered, row!.difference], [undefined, undefined]);
});

Deno.test("budgetOf(): counts add up, fractions of positions are means over items", () => {
  const one = score([-1, -2], {
    reach: { positions: 2, missedKeys: 1, ownFiltered: 2, ownSkips: 3 },
    skips: { tokens: 6, decided: 4, skippedPerLayer: [0, 2], early: 0 },
    drops: { judged: 3, droppedPerLayer: [1, 2] },
  });
  const two = score([-1, -2], {
    reach: { positions: 8, missedKeys: 0, ownFiltered: 2, ownSkips: 2 },
    skips: { tokens: 10, decided: 8, skippedPerLayer: [1, 5], early: 0 },
    drops: { judged: 5, droppedPerLayer: [3, 0] },
  });
  const budget = budgetOf([one, two], 2, [one, two]);
  assertEquals(budget.reach, { positions: 10, missedKeys: 1, ownFiltered: 4, ownSkips: 5 });
  assertEquals(budget.meanReach, { missedKeys: 0.25, ownFiltered: 0.625, ownSkips: (3 / 4 + 2 / 16) / 2 });
  assertEquals([budget.achievedRatio, budget.skipRatioPerLayer], [8 / 24, [1 / 12, 7 / 12]]);
  assertEquals([budget.kvAchievedRatio, budget.kvRatioPerLayer], [6 / 16, [4 / 8, 2 / 8]]);
  assertEquals(budget.usage, { queriesDense: 10, queriesSkipped: 10 } as never);
  assertEquals([reachesNothing(budget), reachesNothing(budgetOf([right], 2, [right]))], [false, true]);
  assertEquals(budgetOf([right], 2, [right]).kvAchievedRatio, null);
});

Deno.test("budgetOf() counts the items that are answered as by the full model, of every run", () => {
  const near = score([-1, -2 - 1e-6]), moved = score([-1.01, -2]);
  const { items, identical } = budgetOf([right, near, moved, right, moved, moved], 2, [right, right, right]);
  assertEquals([items, identical], [6, 3]);
  const made = { logLikelihoods: [-1], generatedIds: [4, 5] };
  assertEquals([isIdentical(made, made), isIdentical(made, { ...made, generatedIds: [4] })], [true, false]);
});
