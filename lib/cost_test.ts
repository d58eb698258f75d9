import { assertEquals } from "@std/assert";
import { attentionFlops, mlpFlops, outputFlops, projectionFlops, windowPairs } from "./cost.ts";

const shape = {
  numLayers: 3,
  numHeads: 4,
  numKvHeads: 2,
  headDim: 8,
  hiddenSize: 20,
  intermediateSize: 50,
  vocabSize: 100,
};

Deno.test("attentionFlops() counts each product by the tokens that need it", () => {
  const none = { tokens: 0, queried: 0, kept: 0, pairs: 0 };
  assertEquals(attentionFlops(shape, { ...none, tokens: 7 }), 7 * 2 * (2 * 20 * 16)); // K and V, 20 -> 16
  assertEquals(attentionFlops(shape, { ...none, queried: 7 }), 7 * (2 * 20 * 32)); // Q, 20 -> 32
  assertEquals(attentionFlops(shape, { ...none, kept: 7 }), 7 * (2 * 32 * 20)); // O, 32 -> 20
  assertEquals(attentionFlops(shape, { ...none, pairs: 7 }), 7 * 2 * (2 * 32)); // scores and value sum
  const some = { tokens: 3, queried: 2, kept: 1 };
  assertEquals(projectionFlops(shape, some), attentionFlops(shape, { ...some, pairs: 0 }));
});

Deno.test("mlpFlops() and outputFlops() count their matrix products", () => {
  assertEquals(mlpFlops(shape, 7), 7 * 3 * (2 * 20 * 50)); // gate, up, down
  assertEquals(outputFlops(shape, 7), 7 * (2 * 20 * 100));
});

Deno.test("windowPairs() without a window counts a query's own key and those before it", () => {
  assertEquals([0, 1, 2, 5].map((tokens) => windowPairs(tokens)), [0, 1, 3, 15]);
});

Deno.test("windowPairs() counts those of a window alone", () => {
  assertEquals([0, 1, 3, 4, 6].map((tokens) => windowPairs(tokens, 3)), [0, 1, 6, 9, 15]);
  assertEquals(windowPairs(5), 15);
});
