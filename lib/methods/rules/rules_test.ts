import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { createLayerState } from "../../filter/layer.ts";
import { RowToken } from "../../filter/rule.ts";
import { makeSpec, type TestSpec } from "../../filter/testing.ts";
import { randomScore } from "../../math/random.ts";
import { type RuleName, RULES } from "../list.ts";

/** Score and weight of a rule for a token with these moments. */
function rate(name: RuleName, moments: typeof m, spec: TestSpec, t = 1) {
  const rule = RULES.find((rule) => rule.name === name)!;
  const token = Object.assign(new RowToken(spec, t), moments);
  return { score: rule.score!(token, spec as never), weight: rule.keyWeight?.(token, spec as never) };
}

const m = { muK: 0.5, varK: 0.04, muV: 0.25, varV: 0.01 };
const none = { muK: 1, varK: 0, muV: 0.5, varV: 0 };

Deno.test("rules give each plain rule's score and weight", () => {
  const spec = makeSpec({ alpha: 0.75 });
  const of = (rule: RuleName) => Object.values(rate(rule, m, spec));
  assertEquals(of("mean"), [0.375, 0.5]);
  assertEquals(of("static"), [0.4375, 0.75]);
  assertEquals(of("key"), [0.5, 1]);
  assertEquals(of("value"), [0.25, 0]);
  assertEquals(of("min"), [0.25, undefined]);
  assertEquals(of("max"), [0.5, undefined]);
  assertEquals(of("product"), [0.125, undefined]);
});

Deno.test("variance weighs the side on which heads agree more", () => {
  const spec = makeSpec({ eps: 1e-6, tau: 1 });
  const wK = 0.010001 / (0.010001 + 0.040001);
  assertAlmostEquals(rate("variance", m, spec).weight!, wK, 1e-15);
  assertAlmostEquals(rate("variance", m, spec, 1).score, wK * 0.5 + (1 - wK) * 0.25, 1e-15);
  const squared = 0.010001 ** 2 / (0.010001 ** 2 + 0.040001 ** 2);
  assertAlmostEquals(rate("variance", m, makeSpec({ tau: 2 })).weight!, squared, 1e-15);
});

Deno.test("variance lowers the score by lambda standard deviations, and clamps it", () => {
  const spec = makeSpec({ tau: 0, lambda: 0.5 });
  assertAlmostEquals(rate("variance", m, spec, 1).score, (0.5 - 0.1 + 0.25 - 0.05) / 2, 1e-15);
  assertEquals(rate("variance", m, makeSpec({ tau: 0, lambda: 64 }), 1).score, -1);
  const over = { muK: 1 + 2 ** -52, varK: 0, muV: 1 + 2 ** -52, varV: 0 }; // a cosine's rounding error
  assertEquals(rate("variance", over, makeSpec(), 1).score, 1);
});

Deno.test("variance with tau 0 is the mean", () => {
  assertEquals(rate("variance", m, makeSpec({ tau: 0 }), 1).score, rate("mean", m, makeSpec(), 1).score);
});

Deno.test("variance stays exact for any tau in [0, 64] and any variances", () => {
  for (const tau of [0, 1e-9, 0.5, 1, 8, 64]) {
    for (const eps of [1e-300, 1e-6, 1]) {
      const spec = makeSpec({ tau, eps });
      assertEquals(rate("variance", none, spec).weight!, 0.5);
      assertEquals(rate("variance", none, spec, 1).score, 0.75);
      for (const [varK, varV] of [[1, 0], [0, 1], [1e-12, 1], [0.3, 0.30001]] as const) {
        const w = rate("variance", { ...m, varK, varV }, spec).weight!;
        const mirrored = rate("variance", { ...m, varK: varV, varV: varK }, spec).weight!;
        assert(w >= 0 && w <= 1, `weight ${w}`);
        assertAlmostEquals(w + mirrored, 1, 1e-12);
        if (tau > 0) assert((w < 0.5) === (varK > varV) || w === 0.5);
      }
    }
  }
  const sharp = rate("variance", { ...m, varK: 0.011, varV: 0.01 }, makeSpec({ tau: 64, eps: 1e-6 })).weight!;
  assertAlmostEquals(sharp, 1 / (1 + (0.011001 / 0.010001) ** 64), 1e-12);
});

Deno.test("random depends on seed, chunk, layer and token alone", () => {
  const spec = makeSpec({ seed: 3n, layer: 2 });
  const score = rate("random", m, spec, 9).score;
  assertEquals(rate("random", none, spec, 9).score, score);
  for (const other of [{ seed: 4n }, { chunk: 2 }, { layer: 3 }]) {
    assert(rate("random", m, { ...spec, ...other }, 9).score !== score);
  }
  assert(rate("random", m, spec, 10).score !== score);
});

Deno.test("periodic goes by the bits of the position, the lowest first", () => {
  const scores = [0, 1, 2, 3, 4, 5, 6, 7].map((t) => rate("periodic", m, makeSpec(), t).score);
  assertEquals(scores, [NaN, 1 / 2, 1 / 4, 3 / 4, 1 / 8, 5 / 8, 3 / 8, 7 / 8]);
  assertEquals(rate("periodic", none, makeSpec(), 2 ** 31 - 1).score, (2 ** 32 - 2) / 2 ** 32);
});

Deno.test("input-norm goes by the norm of the residual stream, the greatest first", () => {
  const { score } = RULES.find(({ name }) => name === "input-norm")!, spec = makeSpec();
  const residual = { data: Float32Array.of(3, 4, 0, 2), width: 2 };
  const rated = [0, 1].map((row) => score!(new RowToken(spec, row + 1, { residual }, row), spec as never));
  assertEquals(rated, [5, 2]);
  assertEquals(score!(new RowToken(spec, 0, { residual }, 0), spec as never), NaN);
});

Deno.test("random-protected is random, less 1 where a value's norm is above the quantile of those before it", () => {
  const spec = makeSpec({ fusion: "random-protected", seed: 3n, layer: 2, protect: 0.25 });
  const rule = RULES.find(({ name }) => name === "random-protected")!, { memory } = rule;
  const state = createLayerState({ ...spec, rule });
  let position = 0;
  /** The next token's score less that of `random`. */
  const rate = (...value: number[]) => {
    const scorer = memory!.open(spec, state), data = Float32Array.from(value);
    const score = scorer.score(new RowToken(spec, position, { value: { data, width: 2 } }));
    scorer.settle?.(true);
    scorer.close?.();
    return score - randomScore(3n, 0, 2, position++);
  };
  // The 0.75 quantile of the norms before is 5, 4, 3.5, 5.0625 and 5.
  const values = [[3, 4], [0, 1], [2, 0], [5.25, 0], [4, -3], [0, 6]];
  assertEquals(values.map((value) => rate(...value)), [NaN, 0, 0, -1, 0, -1]);
  // It looks back on 256 tokens: the quantile is 3, and then 1.375.
  for (let i = 0; i < 256; i++) rate(i < 64 ? 9 : 1, 0);
  assertEquals([rate(2.5, 0), rate(2, 0)], [0, -1]);
  assertEquals(memory!.room, undefined); // all tokens at once
});
