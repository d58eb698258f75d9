/** A small model of random weights, on the reference and on a device. */
import { toF16 } from "../../../lib/half.ts";
import { createPruner, type Pruner, type TokenFilterOptions } from "../../../lib/methods/mod.ts";
import { Model, type ModelConfig, type ModelWeights, uploadWeights } from "../../../lib/model/mod.ts";
import { ReferenceBackend } from "../../../lib/reference/mod.ts";
import { type HostTensor, hostTensor } from "../../../lib/tensor.ts";
import type { CudaBackend } from "../backend.ts";

/** Its sizes. */
export const CONFIG: ModelConfig = {
  numLayers: 3,
  numHeads: 4,
  numKvHeads: 2,
  headDim: 32,
  hiddenSize: 64,
  intermediateSize: 96,
  vocabSize: 131,
  ropeTheta: 10000,
  rmsNormEps: 1e-5,
  contextLength: 256,
  tieWordEmbeddings: false,
};

/** Weights of variance 1 / inputs, from a seed; the MLP's in f16. */
function randomWeights(): ModelWeights<HostTensor> {
  let state = 7;
  const next = () => {
    let sum = -6;
    for (let i = 0; i < 12; i++) sum += (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32;
    return sum;
  };
  const values = (rows: number, cols: number) =>
    Float32Array.from({ length: rows * cols }, () => next() / Math.sqrt(cols));
  const f32 = (rows: number, cols: number) => hostTensor("f32", [rows, cols], values(rows, cols));
  const f16 = (rows: number, cols: number) =>
    hostTensor("f16", [rows, cols], Uint16Array.from(values(rows, cols), (x) => toF16(x)));
  const norm = (n: number) => hostTensor("f32", [n], Float32Array.from({ length: n }, () => 1 + next() / 10));
  const { numLayers, numHeads, numKvHeads, headDim, hiddenSize, intermediateSize, vocabSize } = CONFIG;
  return {
    embedding: f32(vocabSize, hiddenSize),
    layers: Array.from({ length: numLayers }, () => ({
      attnNorm: norm(hiddenSize),
      q: f32(numHeads * headDim, hiddenSize),
      k: f32(numKvHeads * headDim, hiddenSize),
      v: f32(numKvHeads * headDim, hiddenSize),
      o: f32(hiddenSize, numHeads * headDim),
      ffnNorm: norm(hiddenSize),
      gate: f16(intermediateSize, hiddenSize),
      up: f16(intermediateSize, hiddenSize),
      down: f16(hiddenSize, intermediateSize),
    })),
    outputNorm: norm(hiddenSize),
    output: f32(vocabSize, hiddenSize),
  };
}

/** Its weights, in this process. */
export const weights: ModelWeights<HostTensor> = randomWeights();
/** The model on the reference. */
export const truth = new Model(CONFIG, weights, new ReferenceBackend());
/** Token ids that depend on the seed. */
export const ids = (count: number, seed = 0) =>
  Int32Array.from({ length: count }, (_, i) => (i * i * 7 + i * 31 + seed * 17) % CONFIG.vocabSize);
/** The model on a device. */
export const modelOn = (backend: CudaBackend) => new Model(CONFIG, uploadWeights(weights, backend), backend);
/** Token Filtering for the model: all layers, a warm-up of 8. */
export const filtering = (options: TokenFilterOptions, backend?: CudaBackend): Pruner =>
  createPruner("token-filtering", CONFIG, { warmup: 8, tail: 1, ...options }, { backend });
