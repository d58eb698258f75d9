/**
 * Token Filtering: attention is skipped for tokens that are like what came before. Load a model, run and score it.
 *
 * ```ts
 * import { createPruner, loadModel, ReferenceBackend } from "@tokenfilter/tokenfilter";
 * const { model, tokenizer, config } = await loadModel("tiny", new ReferenceBackend());
 * const sequence = model.start(createPruner("token-filtering", config, { fusion: "learned", warmup: 8 }));
 * const hidden = sequence.feed(tokenizer.encode("The sea was calm, and the boat went out.", { bos: true }));
 * console.assert(hidden.shape[0] === sequence.length && sequence.keep.size === 8);
 * ```
 *
 * The filter alone, on the keys and values of another engine:
 *
 * ```ts
 * import { TokenFilter } from "@tokenfilter/tokenfilter";
 * const shape = { numLayers: 1, numHeads: 2, numKvHeads: 2, headDim: 4, hiddenSize: 8 };
 * const filter = new TokenFilter(shape, { preset: "paper", tail: 1, pruneRatio: 0.5, warmup: 4 });
 * const sequence = filter.start();
 * for (let t = 0; t < 16; t++) {
 *   const key = Float32Array.from({ length: 8 }, (_, i) => Math.sin(t + i)), value = key.map((x) => x * t);
 *   const { keep, redundancy } = sequence.step(0, key, value);
 *   console.assert(keep.length === 1 && redundancy.length === 1);
 * }
 * ```
 *
 * Native speed: `openCpu()` of `./ffi` in place of the reference backend. What skipping costs: `./eval`; many
 * configurations: `./sweep`; drawn: `./plot`. Methods of one's own: {@linkcode createScored}, `./methods`. Importing
 * opens nothing; the built-in model is read from the package when it is asked for.
 * @module
 */
export * from "./lib/backend.ts";
export * from "./lib/cost.ts";
export * from "./lib/batch_ops.ts";
export * from "./lib/dtype.ts";
export * from "./lib/errors.ts";
export * from "./lib/eval/mod.ts";
export * from "./lib/filter/mod.ts";
export * from "./lib/half.ts";
export * from "./lib/heads/mod.ts";
export * from "./lib/model/mod.ts";
export * from "./lib/nearest.ts";
export * from "./lib/plot/mod.ts";
export * from "./lib/methods/mod.ts";
export * from "./lib/reference/mod.ts";
export * from "./lib/stats/mod.ts";
export * from "./lib/sweep/mod.ts";
export {
  emptyTensor,
  f32Data,
  hostData,
  type HostTensor,
  hostTensor,
  rowsOf,
  type Tensor,
  type TensorData,
} from "./lib/tensor.ts";
