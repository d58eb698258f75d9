/** The CUDA library's model against Hugging Face transformers in float64. */
import {
  assertGoldenLogits,
  assertGoldenLosses,
  assertGoldenStates,
  golden,
  goldenIds,
} from "../../lib/model/tiny_golden_testing.ts";
import { BatchDecoder, loadModel } from "../../lib/model/mod.ts";
import { RUNS_SLOW } from "../../lib/testing.ts";
import { testOnDevice } from "./testing.ts";

testOnDevice("the CUDA library has transformers' states and logits", async (backend) => {
  const { model } = await loadModel("tiny", backend);
  assertGoldenStates(model, { tokens: 24, chunk: 23 });
});

testOnDevice("a recorded step after a prefill has transformers' logits", async (backend) => {
  const { model } = await loadModel("tiny", backend);
  const { text, positions } = golden.states, position = positions[1]!, ids = goldenIds(text, position + 1);
  const sequence = model.start();
  sequence.feed(ids.slice(0, position));
  using decoder = new BatchDecoder(model, undefined, { batch: 1, capacity: ids.length });
  decoder.admit(0, sequence);
  const logits = backend.read(decoder.step(ids.slice(position)));
  assertGoldenLogits(Array.from(logits.data, Number), position);
});

testOnDevice("the CUDA library has transformers' losses in prefill and decode", async (backend) => {
  const { model } = await loadModel("tiny", backend);
  assertGoldenLosses(model, 0, RUNS_SLOW ? {} : { tokens: 24 });
  assertGoldenLosses(model, 0, { phase: "decode", tokens: RUNS_SLOW ? 12 : 6 });
});
