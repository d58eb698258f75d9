import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { createLayerState, type LayerSpec, SLOT } from "./layer.ts";
import { makeSpec, uniform } from "./testing.ts";
import { quantile } from "../math/quantile.ts";
import { chooseHighest, firstDecided, policyOf } from "./threshold.ts";

/** Feeds scores to a policy and returns theta before each; decisions are counted as a scan would. */
function thetas(spec: LayerSpec, scores: readonly number[], reopen = false): number[] {
  const state = createLayerState(spec), { numbers } = state;
  let threshold = policyOf(spec).open(spec, state);
  return scores.map((score, t) => {
    if (reopen) threshold = policyOf(spec).open(spec, state);
    const theta = threshold.next();
    const decided = t >= firstDecided(spec.warmup);
    numbers[SLOT.seen] = t + 1;
    if (decided) numbers[SLOT.decided]! += 1;
    if (decided && score > theta) numbers[SLOT.skipped]! += 1;
    if (!Number.isNaN(score)) threshold.push(score);
    return theta;
  });
}

Deno.test("window looks back on the last scores alone", () => {
  const spec = makeSpec({ threshold: "window", window: 3, skipRatio: 0.5, warmup: 0 });
  assertEquals(thetas(spec, [NaN, 1, 2, 3, 10, 0]), [NaN, NaN, 1, 1.5, 2, 3]);
  assertEquals(thetas({ ...spec, skipRatio: 0.25 }, [NaN, 1, 2, 3, 10, 0]), [NaN, NaN, 1, 1.75, 2.5, 6.5]);
  assertEquals(thetas({ ...spec, skipRatio: 1 }, [NaN, 1, 2, 3, 10, 0]), [NaN, NaN, 1, 1, 1, 2]);
  assertEquals(thetas({ ...spec, skipRatio: 0 }, [NaN, 1, 2]), [NaN, NaN, NaN]);
});

Deno.test("window of any length holds the right scores, ties among them, through 2,000 random pushes", () => {
  const next = uniform(4);
  for (const window of [1, 2, 7, 64]) {
    const spec = makeSpec({ threshold: "window", window, skipRatio: 0.3 });
    const scores = Array.from({ length: 500 }, () => Math.round(20 * next()) / 20 - 0.5);
    const got = thetas(spec, scores);
    assertEquals(thetas(spec, scores, true), got);
    got.slice(1).forEach((theta, i) => {
      const held = Float64Array.from(scores.slice(Math.max(0, i + 1 - window), i + 1)).sort();
      assertEquals(theta, quantile(held, 0.7));
    });
  }
});

Deno.test("budget aims higher while it owes skips and lower while it has too many", () => {
  const spec = makeSpec({ threshold: "budget", skipRatio: 0.5, warmup: 2 });
  // Scores 0..4, then one that is skipped (n = 5): before n = 5, c = 3 and two of three skipped.
  const scores = [NaN, 0, 1, 2, 3, 4];
  const got = thetas(spec, scores);
  assertEquals(got.slice(0, 3), [NaN, NaN, 0]);
  // n = 3: c = 1, skipped = 1: r = 0.5 - 0.5/16; scores 0, 1.
  assertAlmostEquals(got[3]!, 1 - (0.5 - 0.5 / 16), 1e-15);
  // n = 4: c = 2, skipped = 2: r = 0.5 - 1/16; scores 0, 1, 2.
  assertAlmostEquals(got[4]!, 2 * (1 - (0.5 - 1 / 16)), 1e-15);
});

Deno.test("budget keeps where it aims at 0", () => {
  const spec = makeSpec({ threshold: "budget", skipRatio: 0.1, warmup: 1 });
  const state = createLayerState(spec);
  const threshold = policyOf(spec).open(spec, state);
  threshold.push(0.5);
  state.numbers[SLOT.decided] = 10;
  state.numbers[SLOT.skipped] = 3; // owed -2: 0.1 - 2/16 < 0
  assert(Number.isNaN(threshold.next()));
  state.numbers[SLOT.skipped] = 2; // 0.1 - 1/16 > 0
  assertEquals(threshold.next(), 0.5);
});

Deno.test("robbins-monro starts at the quantile of the warm-up, then follows its own decisions", () => {
  const spec = makeSpec({ threshold: "robbins-monro", skipRatio: 0.5, warmup: 4, eta: 0.1 });
  const got = thetas(spec, [NaN, 1, 2, 6, 5, 2, 4]);
  assertEquals(got.slice(0, 4), [NaN, NaN, NaN, NaN]);
  const sd = Math.sqrt(((1 - 3) ** 2 + (2 - 3) ** 2 + (6 - 3) ** 2) / 3);
  assertAlmostEquals(got[4]!, 2, 1e-15);
  assertAlmostEquals(got[5]!, 2 + 0.1 * sd * 0.5, 1e-15); // 5 > 2
  assertAlmostEquals(got[6]!, got[5]! - 0.1 * sd * 0.5, 1e-15); // 2 < 2.1
  assertEquals(thetas(spec, [NaN, 1, 2, 6, 5, 2, 4], true), got);
});

Deno.test("robbins-monro starts at token 2 with no warm-up, and moves even after equal scores", () => {
  const spec = makeSpec({ threshold: "robbins-monro", skipRatio: 0.25, warmup: 0, eta: 1 });
  const got = thetas(spec, [NaN, 0.5, 0.5, 0.75]);
  assertEquals(got.slice(0, 3), [NaN, NaN, 0.5]);
  assertAlmostEquals(got[3]!, 0.5 - 1e-3 * 0.25, 1e-15);
});

Deno.test("fixed is the given number from the first token on", () => {
  assertEquals(thetas(makeSpec({ threshold: "fixed", theta: 0.25 }), [NaN, 1]), [0.25, 0.25]);
});

Deno.test("chooseHighest() skips floor(rho*(T - warmup) + 0.5) tokens, ties to the earlier", () => {
  const of = (scores: number[], rho: number, warmup: number) =>
    chooseHighest(Float64Array.from(scores), rho, warmup).join("");
  assertEquals(of([NaN, 1, 3, 2, 3], 0.5, 1), "11010");
  assertEquals(of([NaN, 1, 3, 2, 3], 0.25, 1), "11011");
  assertEquals(of([NaN, 1, 1, 1, 1], 0.6, 0), "10001"); // 0.6 * 5 = 3
  assertEquals(of([NaN, 1, 2], 1, 0), "100"); // 3 asked, 2 possible
  assertEquals(of([NaN, 1, 2], 1, 9), "111");
  assertEquals(of([NaN], 1, 0), "1");
  assertEquals(of([NaN, 9, 8, 7, 6], 0.5, 3), "11101"); // 0.5 * 2 = 1 of tokens 3 and 4
});
