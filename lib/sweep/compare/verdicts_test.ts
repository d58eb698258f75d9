import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { ACC, ITEM_PERPLEXITY } from "../../eval/items/item_metrics.ts";
import { normals } from "../../stats/testing.ts";
import { normalQuantile } from "../../stats/normal.ts";
import { mapBudgets } from "../budgets.ts";
import { type ComparedSeries, type Contender, testMethods, testPairs } from "./verdicts.ts";

/** 40 items, the first ones right. */
const right = (count: number) => [Float64Array.from({ length: 40 }, (_, i) => i < count ? 1 : 0)];

const contender = (name: string, own: Partial<Contender> = {}): Contender => ({
  ...{ name, control: -1, mayOppose: true },
  ...own,
});

Deno.test("testMethods() finds the differences that are significant", () => {
  const values = [right(40), right(36), right(20)];
  const contenders = ["dense", "a", "b"].map((name) => contender(name, { mayOppose: name !== "dense" }));
  const [, a, b] = testMethods(contenders, [{ task: "piqa", metric: ACC, blockSize: 1, values }]);
  assertEquals([a!.against.dense!.verdict, b!.against.bestOther!.verdict], [
    "no significant difference",
    "worse",
  ]);
});

Deno.test("a method is compared with the full model, its random baseline, and the best other one at its ratio", () => {
  const contenders = [
    contender("dense", { mayOppose: false }),
    contender("random at 0.3", { asked: 0.3, mayOppose: false }),
    contender("a at 0.3", { asked: 0.3, control: 1 }),
    contender("b at 0.3", { asked: 0.3, control: 1 }),
    contender("c at 0.3", { asked: 0.3, control: 1, missed: true, mayOppose: false }),
    contender("a at 0.5", { asked: 0.5 }),
  ];
  const series: ComparedSeries[] = [
    {
      ...{ task: "piqa", metric: ACC, blockSize: 1 },
      values: [right(38), right(10), right(25), right(37), right(40), right(9)],
    },
    {
      ...{ task: "perplexity", metric: { name: "kl", better: "lower" }, blockSize: 4, isDistance: true },
      values: [0, 3, 2, 1, 0, 4].map((mean) => [Float64Array.from(normals(40, 5), (x) => mean + 0.1 * x)]),
    },
  ];
  const rows = testMethods(contenders, series, { resamples: 200 });
  const says = (task: string) =>
    rows.filter((row) => row.task === task).map(({ method, against }) =>
      `${method}: ${
        Object.entries(against).map(([opponent, { name, verdict }]) => `${verdict} ${opponent} ${name}`).join(
          "; ",
        )
      }`
    );
  assertEquals(says("piqa"), [
    "dense: ",
    "random at 0.3: worse dense dense; worse bestOther b at 0.3",
    "a at 0.3: worse dense dense; better random random at 0.3; worse bestOther b at 0.3",
    "b at 0.3: no significant difference dense dense; better random random at 0.3; better bestOther a at 0.3",
    "c at 0.3: no significant difference dense dense; better random random at 0.3",
    "a at 0.5: worse dense dense",
  ]);
  assertEquals(says("perplexity").slice(1, 4), [
    "random at 0.3: worse bestOther b at 0.3",
    "a at 0.3: better random random at 0.3; worse bestOther b at 0.3",
    "b at 0.3: better random random at 0.3; better bestOther a at 0.3",
  ]);
  const { value, mean, units, against: { dense } } = rows[2]!;
  assertEquals([value, mean, units, dense!.gained, dense!.lost], [25 / 40, 25 / 40, 40, 0, 13]);
  assertAlmostEquals(dense!.estimate, -13 / 40);
  const pairs = testPairs(contenders, series);
  assertEquals(pairs.map(({ task, method, other, verdict }) => `${task}: ${method} ${verdict} ${other}`), [
    "piqa: random at 0.3 worse dense",
    "piqa: a at 0.3 worse dense",
    "piqa: a at 0.3 better random at 0.3",
    "piqa: b at 0.3 no significant difference dense",
    "piqa: b at 0.3 better random at 0.3",
    "piqa: b at 0.3 better a at 0.3",
    "perplexity: random at 0.3 worse dense",
    "perplexity: a at 0.3 worse dense",
    "perplexity: a at 0.3 better random at 0.3",
    "perplexity: b at 0.3 worse dense",
    "perplexity: b at 0.3 better random at 0.3",
    "perplexity: b at 0.3 better a at 0.3",
    "piqa: a at 0.5 worse dense",
    "perplexity: a at 0.5 worse dense",
  ]);
  // One family: no p value is adjusted only by the rows of its own series.
  const all = rows.flatMap(({ against }) => Object.values(against));
  const largest = Math.max(...all.map(({ pValue }) => pValue));
  assert(all.every(({ pValue, adjustedPValue }) => adjustedPValue >= pValue && adjustedPValue <= largest));
});

Deno.test("a difference at budgets more than a point apart says so, by the wider one of both methods' budgets", () => {
  const contenders = [
    contender("dense", { mayOppose: false }),
    contender("a", { budget: "cache" }),
    contender("b", { budget: "cache" }),
    contender("c", { budget: "pairs" }),
  ];
  const spent = [[1, 1], [0.6, 0.7], [0.609, 0.75], [0.58, 0.4]];
  const retained = spent.map(([rows, pairs]) => mapBudgets((name) => name === "cache" ? rows! : pairs!));
  const values = [right(40), right(20), right(30), right(25)];
  const series = [{ task: "piqa", metric: ACC, blockSize: 1, values, retained }];
  const rows = testMethods(contenders, series, { resamples: 50 });
  const others = rows.map(({ against: { bestOther } }) =>
    bestOther && [bestOther.name, bestOther.unequal?.budget]
  );
  assertEquals(others, [undefined, ["b", undefined], ["a", undefined], ["b", "pairs"]]);
  assertAlmostEquals(rows[3]!.against.bestOther!.unequal!.more, -0.35, 1e-12);
  assertEquals([rows[1]!.retained!.cache, rows[1]!.against.dense!.unequal], [0.6, undefined]);
  const unequal = testPairs(contenders, series).filter((pair) => pair.unequal !== undefined);
  assertEquals(unequal.map(({ method, other }) => `${method} ${other}`), ["c a", "c b"]);
});

Deno.test("a metric is a function of its mean, and its verdict is about that mean", () => {
  const values = [[Float64Array.of(1, 2, 3)], [Float64Array.of(2, 3, 4)]];
  const contenders = [contender("dense", { mayOppose: false }), contender("a")];
  const [, a] = testMethods(contenders, [{ task: "needle", metric: ITEM_PERPLEXITY, blockSize: 1, values }]);
  assertEquals([a!.value, a!.mean, a!.against.dense!.estimate], [Math.exp(3), 3, 1]);
});

Deno.test("null experiment: of a method against itself with other seeds the whole table says better in 2.5% +- 2 of 200", () => {
  const items = 200, ease = normals(items, 11).map((x) => 1 / (1 + Math.exp(-2 * x)));
  const answers = (
    seed: number,
  ) => [Float64Array.from(normals(items, seed), (x, i) => x < normalQuantile(ease[i]!) ? 1 : 0)];
  // Half of a token's loss above the text's is its block's: 50 blocks of 4.
  const losses = (seed: number) => {
    const blocks = normals(50, 31 * seed + 7);
    return [normals(200, 17 * seed + 3).map((x, i) => x + blocks[Math.floor(i / 4)]!)];
  };
  const contenders = [
    contender("dense", { mayOppose: false }),
    contender("a", { control: 2 }),
    contender("b"),
  ];
  const calls = { "acc bestOther": 0, "acc random": 0, "perplexity bestOther": 0, "perplexity random": 0 };
  for (let repeat = 0; repeat < 200; repeat++) {
    const [first, second] = [1000 + 2 * repeat, 1001 + 2 * repeat];
    for (
      const series of [
        {
          metric: ACC,
          blockSize: 1,
          values: [right(40).map(() => new Float64Array(items).fill(1)), answers(first), answers(second)],
        },
        {
          metric: ITEM_PERPLEXITY,
          blockSize: 4,
          values: [[new Float64Array(200).fill(-9)], losses(first), losses(second)],
        },
      ]
    ) {
      const [, { against }] = testMethods(contenders, [{ task: "t", ...series }], { resamples: 200 }) as [
        unknown,
        ReturnType<typeof testMethods>[number],
      ];
      for (const opponent of ["bestOther", "random"] as const) {
        if (against[opponent]!.verdict === "better") calls[`${series.metric.name as "acc"} ${opponent}`]++;
      }
      assertEquals(against.dense!.verdict, "worse");
    }
  }
  for (const [what, count] of Object.entries(calls)) {
    assert(count >= 1 && count <= 9, `${what}: ${count} of 200`);
  }
});

Deno.test("null experiment: where evictions act on whole chunks, the table calls equal ones different in 5%", () => {
  // Each chunk of 64 tokens has an effect of its own: blocks of 8 are not independent.
  const losses = (seed: number) =>
    Array.from({ length: 8 }, (_, chunk) => {
      const [effect] = normals(9, 101 * seed + 13 * chunk).slice(8);
      return normals(64, 17 * seed + 7 * chunk + 3).map((x) => 0.2 * x + effect!);
    });
  const wrong = (evicts: boolean) => {
    const own = evicts ? { evicts } : {};
    const contenders = [contender("dense"), contender("a", { control: 2, ...own }), contender("b", own)];
    let count = 0;
    for (let repeat = 0; repeat < 300; repeat++) {
      const values = [losses(5000 + repeat), losses(1000 + 2 * repeat), losses(1001 + 2 * repeat)];
      const series = [{ task: "t", metric: ITEM_PERPLEXITY, blockSize: 8, values }];
      const [, { against: { random } }] = testMethods(contenders, series, { resamples: 200 }) as [
        unknown,
        ReturnType<typeof testMethods>[number],
      ];
      const { low, high, pValue } = random!;
      if (evicts) assertEquals(pValue < 0.05, low > 0 || high < 0);
      if (pValue <= 0.05) count++;
    }
    return count / 300;
  };
  const share = wrong(true);
  assert(share > 0.025 && share < 0.08, `${share}`);
  assert(wrong(false) > 0.2, "over blocks");
});
