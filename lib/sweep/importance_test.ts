import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { makeTrial } from "../plot/testing.ts";
import { measureImportance } from "./importance.ts";
import type { MethodOptions } from "../methods/mod.ts";

/** A trial whose loss increase is a given number. */
const trial = (options: MethodOptions, loss: number) => ({ ...makeTrial(options, 0.5, 50), nllDelta: loss });

Deno.test("measureImportance() is the functional ANOVA of a whole grid", () => {
  // loss = a + 2 b + 3 a b over a, b in {-1, 1}: variances 1, 4 and 9.
  const trials = [0, 1].flatMap((tau, i) =>
    [0, 16].map((recent, j) => {
      const a = 2 * i - 1, b = 2 * j - 1;
      return trial({ fusion: "variance", tau, recent }, a + 2 * b + 3 * a * b + 7);
    })
  );
  const found = measureImportance(trials)!;
  assertEquals([found.exact, found.points], [true, 4]);
  assertAlmostEquals(found.variance, 14, 1e-12);
  assertEquals(found.effects.map(({ options }) => options.join()), ["tau,recent", "recent", "tau"]);
  found.effects.forEach(({ share }, i) => assertAlmostEquals(share, [9, 4, 1][i]! / 14, 1e-12));
  assertAlmostEquals(found.rest, 0, 1e-12);
});

Deno.test("measureImportance() leaves interactions of three options to the rest", () => {
  const signs = [-1, 1];
  const trials = signs.flatMap((a) =>
    signs.flatMap((b) =>
      signs.map((c) =>
        trial({ fusion: "variance", tau: a + 2, lambda: b + 1, recent: 8 + 8 * c }, a + 2 * a * b * c)
      )
    )
  );
  const { rest, effects } = measureImportance(trials)!;
  assertAlmostEquals(rest, 4 / 5, 1e-12);
  assertEquals(effects.length, 6);
  assertEquals(effects[0], { options: ["tau"], share: effects[0]!.share });
  assertAlmostEquals(effects[0]!.share, 1 / 5, 1e-12);
});

Deno.test("measureImportance() averages seeds", () => {
  const trials = [0.1, 0.2].flatMap((pruneRatio) =>
    [0, 1].map((seed) => trial({ fusion: "random", pruneRatio, seed }, pruneRatio + (seed - 0.5)))
  );
  const { exact, points, effects } = measureImportance(trials)!;
  assertEquals([exact, points, effects.length], [true, 2, 1]);
  assertAlmostEquals(effects[0]!.share, 1, 1e-12);
});

Deno.test("measureImportance() fits an additive model where the grid is not whole", () => {
  // tau has no effect under `mean`; with it the loss moves by -1, 0, 1 around the rule's own 5.
  const ratios = [0.1, 0.3];
  const trials = ratios.flatMap((pruneRatio, r) => [
    trial({ fusion: "mean", pruneRatio }, 1 + 4 * r),
    ...[1, 2, 3].map((tau) => trial({ fusion: "variance", tau, pruneRatio }, 5 + (tau - 2) + 4 * r)),
  ]);
  const { exact, effects, rest, variance } = measureImportance(trials)!;
  assertEquals(exact, false);
  assertAlmostEquals(variance, 4 + 3 + 0.5, 1e-9);
  const share = (name: string) => effects.find(({ options }) => options[0] === name)!.share * variance;
  assertAlmostEquals(share("pruneRatio"), 4, 1e-5);
  assertAlmostEquals(share("fusion"), 3, 1e-5); // 4² x 1/4 x 3/4
  assertAlmostEquals(share("tau"), 0.5, 1e-5); // mean of 1, 0, 1 over 3 of 4 points
  assertAlmostEquals(rest, 0, 1e-5);
});

Deno.test("measureImportance() says nothing where nothing varies", () => {
  assertEquals(measureImportance([]), undefined);
  assertEquals(measureImportance([trial({ tau: 1 }, 1), trial({ tau: 2 }, 1)]), undefined);
  assertEquals(measureImportance([trial({ tau: 1 }, 1), trial({ tau: 2 }, NaN)]), undefined);
  assert(measureImportance([trial({ tau: 1 }, 1), trial({ tau: 2 }, 2)])!.exact);
});
