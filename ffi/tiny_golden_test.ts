/** The CPU library's model against Hugging Face transformers in float64. */
import { assertGoldenLosses, assertGoldenStates, golden } from "../lib/model/tiny_golden_testing.ts";
import { loadModel } from "../lib/model/mod.ts";
import { openTested } from "../kernels/testing/ways.ts";

for (const [name, options] of [["", {}], [" without a BLAS", { blas: "none" }]] as const) {
  const { model } = await loadModel("tiny", await openTested({ threads: 2, ...options }));

  Deno.test(`the CPU library has transformers' states and logits${name}`, () => {
    for (const feed of [{}, { chunk: 7 }, { chunk: 1 }]) assertGoldenStates(model, feed);
  });

  Deno.test(`the CPU library has transformers' losses in prefill, chunks and decode${name}`, () => {
    golden.texts.forEach((_, text) => {
      for (const feed of [{}, { chunk: 64 }, { phase: "decode" }] as const) {
        assertGoldenLosses(model, text, feed);
      }
    });
  });
}
