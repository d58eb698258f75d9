/** The CUDA library's models of every architecture against Hugging Face transformers in float64. */
import { assert } from "@std/assert";
import { distanceOf, goldenIds, LOGIT_BAR, logitsOf } from "../../lib/model/checkpoint_golden_testing.ts";
import {
  assertSame,
  decodeFiltered,
  ONE_OF_EACH,
  openCheckpoint,
  runFiltered,
} from "../../lib/model/checkpoint_methods_testing.ts";
import { BatchDecoder } from "../../lib/model/mod.ts";
import { ReferenceBackend } from "../../lib/reference/mod.ts";
import { testOnDevice } from "./testing.ts";

testOnDevice("recorded decode steps have transformers' logits of models with windows", (backend) => {
  for (const name of ["mistral", "gemma3"] as const) {
    const model = openCheckpoint(name, backend), { vocabSize } = model.config;
    using decoder = new BatchDecoder(model, undefined, { batch: 1, capacity: goldenIds.length });
    decoder.begin(0);
    const logits = new Float32Array(goldenIds.length * vocabSize);
    goldenIds.forEach((id, i) => {
      logits.set(backend.read(decoder.step(Int32Array.of(id))).data as Float32Array, i * vocabSize);
    });
    const distance = distanceOf(name, logits);
    assert(distance <= LOGIT_BAR, `${name}: found logits ${distance} off`);
  }
});

testOnDevice("the CUDA library has transformers' logits of a prefill, past windows too", (backend) => {
  for (const name of ONE_OF_EACH) {
    const distance = distanceOf(name, logitsOf(openCheckpoint(name, backend), 23));
    assert(distance <= LOGIT_BAR, `${name}: found logits ${distance} off`);
  }
});

testOnDevice("the CUDA library filters a model with norms of heads as the reference does", (backend) => {
  const expected = runFiltered(openCheckpoint("qwen3", new ReferenceBackend()), "variance");
  assertSame(decodeFiltered(openCheckpoint("qwen3", backend), "variance"), expected, "qwen3");
});
