/** The reference's model against Hugging Face transformers in float64. */
import { RUNS_SLOW } from "../testing.ts";
import { tiny } from "./testing.ts";
import { assertGoldenLosses, assertGoldenStates, golden } from "./tiny_golden_testing.ts";

Deno.test("the reference has transformers' residual streams, keys, values, hidden states and logits", () => {
  assertGoldenStates(tiny);
});

Deno.test("the reference has them in chunks and token by token", () => {
  assertGoldenStates(tiny, { chunk: 7 });
  assertGoldenStates(tiny, { tokens: 24, chunk: 1 });
});

Deno.test("the reference has transformers' losses", () => {
  golden.texts.forEach((_, text) => assertGoldenLosses(tiny, text, { tokens: RUNS_SLOW ? 150 : 60 }));
});
