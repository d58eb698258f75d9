/** Small random checkpoints against the results of transformers. */
import { assert } from "@std/assert";
import type { Backend } from "../backend.ts";
import type { WeightDType } from "../dtype.ts";
import { BatchDecoder } from "./run/batch/batch_decoder.ts";
import type { ModelConfig } from "./config/config.ts";
import type { ConfigOptions, ModelSource } from "./config/config_reader.ts";
import { readModelConfig } from "./config/read_config.ts";
import { Model } from "./model.ts";
import golden from "./testdata/checkpoint_golden.json" with { type: "json" };
import { type CheckpointName, CHECKPOINTS } from "./testdata/checkpoints.ts";
import { loadWeights } from "./load_weights.ts";
import { uploadWeights } from "./upload_testing.ts";

/**
 * How far logits may be from the float64 ones, relative to their root mean square. transformers computes norms, softmax
 * and rotary angles in float32 even then.
 */
export const LOGIT_BAR = 2e-5;

const { positions, tokens, vocabSize } = golden;

/** The tokens whose logits are known. */
export const goldenIds: Int32Array<ArrayBuffer> = Int32Array.from(
  { length: tokens },
  (_, i) => (i * i * 7 + i * 31 + 5) % vocabSize,
);

/** A source's model. @param changes of its config, for tests that break it */
export function openSource(
  source: ModelSource,
  backend: Backend,
  { dtype, ...options }: ConfigOptions & { readonly dtype?: WeightDType } = {},
  changes: (config: ModelConfig) => Partial<ModelConfig> = () => ({}),
): Model {
  const config = readModelConfig(source, options);
  return new Model(
    { ...config, ...changes(config) },
    uploadWeights(loadWeights(source, config, (tensor) => tensor, dtype), backend),
    backend,
  );
}

/** Logits of all golden tokens, fed in pieces. */
export function logitsOf(model: Model, piece = tokens): Float32Array {
  const out = new Float32Array(tokens * vocabSize), sequence = model.start();
  for (let at = 0; at < tokens; at += piece) {
    const hidden = sequence.feed(goldenIds.slice(at, at + piece));
    out.set(model.backend.read(model.logits(hidden)).data as Float32Array, at * vocabSize);
  }
  sequence.free();
  return out;
}

/** Tokens before the first step of a batch. */
const PREFILL = 5;

/** The same, the tokens past a short prefill by a batch decoder, next to an idle slot and one that began empty. */
export function logitsInBatch(model: Model): Float32Array {
  const out = new Float32Array(tokens * vocabSize), sequence = model.start();
  const hidden = sequence.feed(goldenIds.slice(0, PREFILL));
  out.set(model.backend.read(model.logits(hidden)).data as Float32Array);
  using decoder = new BatchDecoder(model, undefined, { batch: 3, capacity: tokens });
  decoder.admit(1, sequence);
  decoder.begin(2);
  for (let at = PREFILL; at < tokens; at++) {
    const step = decoder.step(Int32Array.of(0, goldenIds[at]!, goldenIds[at - PREFILL]!));
    const logits = model.backend.read(step).data as Float32Array;
    out.set(logits.subarray(vocabSize, 2 * vocabSize), at * vocabSize);
  }
  return out;
}

/** Largest distance of logits [tokens, vocabSize] from the golden ones, relative to the size of these. */
export function distanceOf(name: CheckpointName, logits: ArrayLike<number>): number {
  const want = new Float32Array(Uint8Array.fromBase64(CHECKPOINTS[name].logits).buffer);
  const size = Math.sqrt(want.reduce((sum, x) => sum + x * x, 0) / want.length);
  let most = 0;
  positions.forEach((position, row) => {
    for (let i = 0; i < vocabSize; i++) {
      const far = Math.abs(logits[position * vocabSize + i]! - want[row * vocabSize + i]!) / size;
      most = far <= most ? most : far; // NaN stays
    }
  });
  return most;
}

/** Fails unless a model's logits are the golden ones. */
export function assertCheckpoint(name: CheckpointName, model: Model, piece?: number): void {
  const distance = distanceOf(name, logitsOf(model, piece));
  assert(distance <= LOGIT_BAR, `${name}: found logits ${distance} off, expected ${LOGIT_BAR}`);
}
