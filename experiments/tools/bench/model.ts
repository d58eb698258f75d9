/** Decode steps of a whole model of random weights: dense, with a filter that keeps everything, and with half skipped. */
import { createPruner, type Pruner } from "../../../lib/methods/mod.ts";
import {
  BatchDecoder,
  createWeights,
  Model,
  type ModelConfig,
  type TensorSpec,
} from "../../../lib/model/mod.ts";
import type { CudaBackend } from "../../../ffi/mod.ts";
import type { BenchCase } from "./run.ts";
import { type FloatType, randomTensor } from "./tensors.ts";

/**
 * Decode steps of a batch, as one recorded graph: dense; filtered, with the whole work of the decisions and nothing
 * skipped, since the warm-up does not end; and with half skipped. Each also of dependent launches, where the device has
 * them.
 */
export function decodeStepCases(
  backend: CudaBackend,
  config: ModelConfig,
  { batch, capacity }: { readonly batch: number; readonly capacity: number },
): BenchCase[] {
  let seed = 100;
  const make = ({ shape, dtype }: TensorSpec) =>
    randomTensor(backend, (dtype ?? "bf16") as FloatType, shape, seed++);
  const model = new Model(config, createWeights(config, make), backend);
  const filter = (warmup: number): Pruner =>
    createPruner("token-filtering", config, { pruneRatio: 0.5, tail: 1, warmup }, { backend });
  const { numLayers, numHeads, numKvHeads, headDim, hiddenSize, intermediateSize, vocabSize } = config;
  const perLayer = hiddenSize * headDim * 2 * (numHeads + numKvHeads) + 3 * hiddenSize * intermediateSize;
  const values = numLayers * perLayer + vocabSize * hiddenSize;
  const launches = backend.useDependentLaunch(true) ? [false, true] : [false];
  backend.useDependentLaunch(false);
  return [
    { words: "dense", skip: 0, pruner: undefined },
    { words: "filtered, nothing skipped", skip: 0, pruner: filter(capacity) },
    { words: "filtered", skip: 0.5, pruner: filter(0) },
  ].flatMap((each) => launches.map((dependent) => ({ ...each, dependent }))).map((each) => {
    const { words, skip, pruner, dependent } = each;
    const decoder = new BatchDecoder(model, pruner, { batch, capacity, cacheDType: "bf16" });
    for (let slot = 0; slot < batch; slot++) decoder.admit(slot, model.start(pruner, { cacheDType: "bf16" }));
    const ids = Int32Array.from({ length: batch }, (_, i) => (i * 37) % vocabSize);
    return {
      ...{
        op: "decode_step",
        impl: dependent ? "tokenfilter dependent" : "tokenfilter",
        dtype: "bf16",
        skip,
      },
      phase: "decode" as const,
      shape: `${words}: batch=${batch} layers=${numLayers} hidden=${hiddenSize}`,
      flops: 2 * batch * values,
      bytes: 2 * values,
      run: () => void decoder.step(), // its own likeliest tokens: nothing comes from the host
      verify() {
        decoder.step(ids);
        backend.useDependentLaunch(dependent);
        decoder.step(ids); // recorded now, and launched so from here on
        backend.useDependentLaunch(false);
        const logits = backend.read(decoder.step(ids)).data as Float32Array;
        if (!logits.every(Number.isFinite)) {
          throw new Error("Cannot trust a decode step: found logits not finite");
        }
        if (skip === 0 && decoder.keep().includes(0)) {
          throw new Error("Cannot trust a decode step: found a skipped token, expected none");
        }
      },
    };
  });
}
