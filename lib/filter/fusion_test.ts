import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { FUSION } from "./fusion.ts";
import { FUSION_RULES } from "./layer.ts";
import { makeSpec } from "./testing.ts";

const m = { muK: 0.5, varK: 0.04, muV: 0.25, varV: 0.01 };
const none = { muK: 1, varK: 0, muV: 0.5, varV: 0 };

Deno.test("FUSION has an entry for every rule but learned", () => {
  assertEquals(Object.keys(FUSION), FUSION_RULES.filter((rule) => rule !== "learned"));
});

Deno.test("FUSION gives each plain rule's score and weight", () => {
  const spec = makeSpec({ alpha: 0.75 });
  const of = (rule: keyof typeof FUSION) => [FUSION[rule].score(m, spec, 1), FUSION[rule].keyWeight(m, spec)];
  assertEquals(of("mean"), [0.375, 0.5]);
  assertEquals(of("static"), [0.4375, 0.75]);
  assertEquals(of("key"), [0.5, 1]);
  assertEquals(of("value"), [0.25, 0]);
  assertEquals(of("min"), [0.25, NaN]);
  assertEquals(of("max"), [0.5, NaN]);
  assertEquals(of("product"), [0.125, NaN]);
});

Deno.test("FUSION.variance weighs the side on which heads agree more", () => {
  const spec = makeSpec({ eps: 1e-6, tau: 1 });
  const wK = 0.010001 / (0.010001 + 0.040001);
  assertAlmostEquals(FUSION.variance.keyWeight(m, spec), wK, 1e-15);
  assertAlmostEquals(FUSION.variance.score(m, spec, 1), wK * 0.5 + (1 - wK) * 0.25, 1e-15);
  const squared = 0.010001 ** 2 / (0.010001 ** 2 + 0.040001 ** 2);
  assertAlmostEquals(FUSION.variance.keyWeight(m, makeSpec({ tau: 2 })), squared, 1e-15);
});

Deno.test("FUSION.variance lowers the score by lambda standard deviations, and clamps it", () => {
  const spec = makeSpec({ tau: 0, lambda: 0.5 });
  assertAlmostEquals(FUSION.variance.score(m, spec, 1), (0.5 - 0.1 + 0.25 - 0.05) / 2, 1e-15);
  assertEquals(FUSION.variance.score(m, makeSpec({ tau: 0, lambda: 64 }), 1), -1);
  const over = { muK: 1 + 2 ** -52, varK: 0, muV: 1 + 2 ** -52, varV: 0 }; // a cosine's rounding error
  assertEquals(FUSION.variance.score(over, makeSpec(), 1), 1);
});

Deno.test("FUSION.variance with tau 0 is the mean", () => {
  assertEquals(FUSION.variance.score(m, makeSpec({ tau: 0 }), 1), FUSION.mean.score(m, makeSpec(), 1));
});

Deno.test("FUSION.variance stays exact for any tau in [0, 64] and any variances", () => {
  for (const tau of [0, 1e-9, 0.5, 1, 8, 64]) {
    for (const eps of [1e-300, 1e-6, 1]) {
      const spec = makeSpec({ tau, eps });
      assertEquals(FUSION.variance.keyWeight(none, spec), 0.5);
      assertEquals(FUSION.variance.score(none, spec, 1), 0.75);
      for (const [varK, varV] of [[1, 0], [0, 1], [1e-12, 1], [0.3, 0.30001]] as const) {
        const w = FUSION.variance.keyWeight({ ...m, varK, varV }, spec);
        const mirrored = FUSION.variance.keyWeight({ ...m, varK: varV, varV: varK }, spec);
        assert(w >= 0 && w <= 1, `weight ${w}`);
        assertAlmostEquals(w + mirrored, 1, 1e-12);
        if (tau > 0) assert((w < 0.5) === (varK > varV) || w === 0.5);
      }
    }
  }
  const sharp = FUSION.variance.keyWeight(
    { ...m, varK: 0.011, varV: 0.01 },
    makeSpec({ tau: 64, eps: 1e-6 }),
  );
  assertAlmostEquals(sharp, 1 / (1 + (0.011001 / 0.010001) ** 64), 1e-12);
});

Deno.test("FUSION.random depends on seed, chunk, layer and token alone", () => {
  const spec = makeSpec({ seed: 3n, layer: 2 });
  const score = FUSION.random.score(m, spec, 9);
  assertEquals(FUSION.random.score(none, spec, 9), score);
  for (const other of [{ seed: 4n }, { chunk: 2 }, { layer: 3 }]) {
    assert(FUSION.random.score(m, { ...spec, ...other }, 9) !== score);
  }
  assert(FUSION.random.score(m, spec, 10) !== score);
});
