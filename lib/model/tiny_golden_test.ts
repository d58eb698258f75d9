/** The reference's model against Hugging Face transformers in float64. */
import { llama } from "./testing.ts";
import { assertGoldenLosses, assertGoldenStates, golden } from "./tiny_golden_testing.ts";

Deno.test("the reference has transformers' residual streams, keys, values, hidden states and logits", () => {
  assertGoldenStates(llama);
});

Deno.test("the reference has them in chunks and token by token", () => {
  assertGoldenStates(llama, { chunk: 7 });
  assertGoldenStates(llama, { tokens: 24, chunk: 1 });
});

Deno.test("the reference has transformers' losses", () => {
  golden.texts.forEach((_, text) => assertGoldenLosses(llama, text, { tokens: 150 }));
});
