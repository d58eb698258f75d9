import { assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { expectAllFreed, fakeLogits, fakeModel, fakePruner } from "./testing.ts";
import { ReferenceBackend } from "../reference/mod.ts";
import { f32Data } from "../tensor.ts";
import type { EvaluatedModel } from "./language_model.ts";
import { scoreSequence } from "./sequence_score.ts";

const ids = Int32Array.from({ length: 300 }, (_, i) => (i * i + 2 * i) % 5);
const skip = (t: number) => t > 2 && t % 3 === 0;

Deno.test("scoreSequence() gives the loss of every token after the first, however it is fed", () => {
  for (
    const options of [{}, { chunk: 1 }, { chunk: 2 }, { chunk: 7 }, { chunk: 299 }, { chunk: 400 }, {
      phase: "decode" as const,
    }]
  ) {
    const { model } = fakeModel();
    const fed: number[] = [];
    const score = scoreSequence(model, ids, fakePruner([3, 1], skip), {
      ...options,
      onFeed: (n) => fed.push(n),
    });
    assertEquals(score.nll.length, 299);
    score.nll.forEach((nll, i) => {
      const logits = fakeLogits(ids[i]!, skip(i) ? 2 : 0);
      const expected = Math.log(logits.reduce((sum, x) => sum + Math.exp(x), 0)) - logits[ids[i + 1]!]!;
      assertAlmostEquals(nll, expected, 1e-6);
    });
    assertEquals(score.layers, [1, 3]);
    assertEquals(
      score.keep.map((mask) => [...mask]),
      [1, 3].map(() => Array.from(ids, (_, t) => skip(t) ? 0 : 1)),
    );
    assertAlmostEquals(Math.log(score.perplexity), score.nll.reduce((a, b) => a + b) / 299, 1e-12);
    assertEquals(fed.at(-1), 300);
  }
});

Deno.test("scoreSequence() frees what it takes, however it is fed", () => {
  for (const options of [{}, { chunk: 1 }, { chunk: 7 }]) {
    expectAllFreed((model) => scoreSequence(model, ids, fakePruner([1], skip), options));
  }
});

Deno.test("scoreSequence() has no layers and masks where dense", () => {
  const { layers, keep } = scoreSequence(fakeModel().model, Int32Array.of(1, 2));
  assertEquals([layers, keep], [[], []]);
});

Deno.test("scoreSequence() refuses one token, broken chunks, and non-causal methods in pieces", () => {
  const { model } = fakeModel();
  assertThrows(() => scoreSequence(model, Int32Array.of(1)), RangeError, "a sequence of 1 tokens");
  assertThrows(() => scoreSequence(model, ids, undefined, { chunk: 0 }), RangeError, "positive integer");
  const ahead = fakePruner([1], skip, { at: "prefill" });
  assertThrows(() => scoreSequence(model, ids, ahead, { phase: "decode" }), RangeError, "is non-causal");
  assertEquals(scoreSequence(model, ids, ahead).layers, [1]);
});

Deno.test("scoreSequence() refuses a loss that is not finite, by its token, and an infinite perplexity", () => {
  const { model } = fakeModel();
  const alter = (change: (logits: Float32Array) => unknown): typeof model => ({
    ...model,
    start: (...args) => {
      const sequence = model.start(...args), { feed } = sequence;
      return Object.assign(sequence, {
        feed: (ids: Int32Array<ArrayBuffer>) => {
          const hidden = feed(ids);
          change(f32Data(hidden));
          return hidden;
        },
      });
    },
  });
  const broken = alter((logits) => logits[5 * 20] = NaN);
  assertThrows(() => scoreSequence(broken, ids), RangeError, "Cannot score token 21: found a loss of NaN");
  const great = alter((logits) => logits.forEach((logit, i) => logits[i] = 1e4 * logit));
  assertThrows(() => scoreSequence(great, ids), RangeError, "expected one of a finite perplexity");
});

Deno.test("scoreSequence() decodes on a device that records steps, and says why it does not", () => {
  const { model } = fakeModel();
  const startBatch = () => {
    throw new Error("decodes on the device");
  };
  const decode = (backend: EvaluatedModel["backend"]) =>
    scoreSequence({ ...model, backend, startBatch }, ids, undefined, { phase: "decode" });
  assertEquals(decode(model.backend).fedByHost, 'backend "reference" has no recorded steps');
  const record = (): never => {
    throw new Error("not called");
  };
  assertThrows(
    () => decode(Object.assign(new ReferenceBackend(), { record })),
    Error,
    "decodes on the device",
  );
});
