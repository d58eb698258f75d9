/** Tests of significance: hand-made numbers, and how often they call a method better than itself. */
import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { pairedBootstrap } from "./bootstrap.ts";
import { mcnemarTest } from "./mcnemar.ts";
import { benjaminiHochberg } from "./multiple.ts";
import { normalQuantile, smallestDetectable } from "./normal.ts";
import { pairedMean } from "./paired.ts";
import { normals } from "./testing.ts";

Deno.test("mcnemarTest() gives the binomial's p values", () => {
  // [gained, lost, mid-p, exact], by Python's integers: 2 * sum of C(n, i) / 2^n.
  const cases = [
    [0, 0, 1, 1],
    [3, 3, 1, 1],
    [2, 9, 0.03857421875, 0.0654296875],
    [9, 2, 0.03857421875, 0.0654296875],
    [15, 5, 0.02660369873046875, 0.04138946533203125],
    [620, 700, 0.02769156672031076, 0.029636429325384843],
  ] as const;
  for (const [gained, lost, pValue, exactPValue] of cases) {
    const equal = [0, 1, 1, 0];
    const first = [...Array(gained).fill(0), ...Array(lost).fill(1), ...equal];
    const second = [...Array(gained).fill(1), ...Array(lost).fill(0), ...equal];
    const found = mcnemarTest(first, second);
    assertEquals([found.gained, found.lost], [gained, lost]);
    assertAlmostEquals(found.pValue, pValue, 1e-12);
    assertAlmostEquals(found.exactPValue, exactPValue, 1e-12);
  }
  assertThrows(() => mcnemarTest([1], []), RangeError, "Cannot pair 1 items with 0");
});

Deno.test("normalQuantile() gives Python's, in all its branches; smallestDetectable() is the textbook's", () => {
  const cases = [
    [0.5, 0],
    [0.6, 0.2533471031357998],
    [0.93, 1.4757910281791708],
    [0.975, 1.9599639845400536],
    [0.0005, -3.2905267314918945],
    [1e-12, -7.034483825301132],
    [1e-300, -37.0470962993612],
  ] as const;
  for (const [p, quantile] of cases) {
    assertAlmostEquals(normalQuantile(p), quantile, 1e-13 * (1 + Math.abs(quantile)));
  }
  for (const p of [0, 1, NaN]) {
    assertThrows(() => normalQuantile(p), RangeError, `"p": found ${p}, expected a number in (0, 1)`);
  }
  assertAlmostEquals(smallestDetectable(2), 2 * (1.959963984540054 + 0.8416212335729143), 1e-12);
  assertAlmostEquals(smallestDetectable(1, 0.9, 0.01), 2.575829303548901 + 1.2815515655446004, 1e-12);
});

Deno.test("benjaminiHochberg() adjusts by rank from the largest, and keeps the order", () => {
  const adjusted = benjaminiHochberg([0.01, 0.04, 0.03, 0.005, 1]);
  [0.025, 0.05, 0.05, 0.025, 1].forEach((value, i) => assertAlmostEquals(adjusted[i]!, value, 1e-15));
  assertEquals([benjaminiHochberg([]), benjaminiHochberg([0.2, 0.2])], [[], [0.2, 0.2]]);
  for (const wrong of [1.5, -0.1, NaN]) {
    assertThrows(() => benjaminiHochberg([0.2, wrong]), RangeError, `found ${wrong}`);
  }
});

Deno.test("pairedBootstrap() has the interval of its mean, and p values on both sides", () => {
  const noise = normals(900, 5);
  const p = (shift: number) =>
    pairedBootstrap([noise.map((x) => x + shift)], { blockSize: 1, resamples: 500 });
  const [below, at, above] = [p(-0.2), p(-noise.reduce((a, b) => a + b) / 900), p(0.2)];
  assert(below.pValue < 0.01 && above.pValue < 0.01 && at.pValue > 0.9);
  assert(below.high < 0 && above.low > 0 && at.low < 0 && at.high > 0);
  const same = pairedBootstrap([new Float64Array(30)], { blockSize: 1, resamples: 100 });
  assertEquals([same.estimate, same.low, same.high, same.pValue], [0, 0, 0, 1]);
  // A few values that agree in sign are no more evidence than their number allows.
  const few = (count: number) =>
    pairedBootstrap([normals(count, 3).map((x) => 9 + x)], { blockSize: 1, resamples: 500 });
  assertEquals([few(1).pValue, few(4).pValue, few(30).pValue < 0.005], [1, 0.125, true]);
  assertThrows(() => pairedBootstrap([]), RangeError, "Cannot resample");
});

/** How many of 200 repeats call the second run better, and how many worse, at 5%. */
function countCalls(
  run: (repeat: number) => { readonly difference: number; readonly pValue: number },
): [number, number] {
  const calls = Array.from({ length: 200 }, (_, repeat) => run(repeat)).filter(({ pValue }) =>
    pValue <= 0.05
  );
  return [
    calls.filter(({ difference }) => difference > 0).length,
    calls.filter(({ difference }) => difference < 0).length,
  ];
}

/** 2.5% of 200, give or take 2 points. */
const expectNull = (calls: readonly number[]) =>
  calls.forEach((count) => assert(count >= 1 && count <= 9, `${calls}`));

Deno.test("null experiment: a method against itself with other seeds is called better in 2.5% +- 2 of 200 repeats", () => {
  // Items of unlike difficulty; each run draws its answers anew.
  const items = 400, ease = normals(items, 11).map((x) => 1 / (1 + Math.exp(-2 * x)));
  const answers = (seed: number) =>
    Array.from(normals(items, seed), (x, i) => x < normalQuantile(ease[i]!) ? 1 : 0);
  expectNull(countCalls((repeat) => {
    const { gained, lost, pValue } = mcnemarTest(answers(1000 + 2 * repeat), answers(1001 + 2 * repeat));
    return { difference: gained - lost, pValue };
  }));
});

Deno.test("null experiment: losses whose neighbours depend on each other, by blocks; by single tokens far more", () => {
  // A third of a token's difference is its block's: 60 blocks of 16.
  const losses = (seed: number) => {
    const blocks = normals(60, 31 * seed + 7), tokens = normals(960, 17 * seed + 3);
    return tokens.map((x, i) => 0.8 * x + 0.6 * blocks[Math.floor(i / 16)]!);
  };
  const calls = (blockSize: number) =>
    countCalls((repeat) => {
      const { estimate, pValue } = pairedBootstrap([losses(repeat)], {
        blockSize,
        resamples: 200,
        seed: repeat,
      });
      return { difference: estimate, pValue };
    });
  expectNull(calls(16));
  const [above, below] = countCalls((repeat) => {
    const { mean, standardError } = pairedMean([losses(repeat)], 1);
    return { difference: mean, pValue: Math.abs(mean) > 1.96 * standardError! ? 0 : 1 };
  });
  assert(above > 20 && below > 20, `${above}, ${below}`);
});
