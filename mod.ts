/**
 * Token Filtering skips attention for tokens that resemble earlier ones. Load a model, run and score it.
 *
 * ```ts
 * import { createPruner, loadModel, ReferenceBackend } from "@tokenfilter/tokenfilter";
 * const { model, tokenizer, config } = await loadModel("tiny", new ReferenceBackend());
 * const sequence = model.start(createPruner("token-filtering", config, { fusion: "learned", warmup: 8 }));
 * const hidden = sequence.feed(tokenizer.encode("The sea was calm, and the boat went out.", { bos: true }));
 * console.assert(hidden.shape[0] === sequence.length && sequence.keep.size === 8);
 * ```
 *
 * Only the filter, on the keys and values of another engine:
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
 * Native speed: `openCpu()` of `./ffi` instead of the reference backend. Costs of skipping: `./eval`; many
 * configurations: `./sweep`; plots: `./plot`. Your own rules: {@linkcode createCustomRule}, `./methods`. Importing
 * opens nothing; the built-in model is read from the package when it is asked for.
 * @module
 */
export type { Backend } from "./lib/backend.ts";
export { KernelError, ModelFormatError, NativeLibraryError, UsageError } from "./lib/errors.ts";
export { type FeedOptions, scoreSequence, type SequenceScore } from "./lib/eval/sequence_score.ts";
export { readBuiltinText } from "./lib/eval/text/mod.ts";
export { type FilterDecisions, FilterSequence, type FilterShape } from "./lib/filter/sequence.ts";
export {
  createCustomRule,
  createPruner,
  METHOD_NAMES,
  type MethodName,
  type MethodOptions,
  type Pruner,
  resolveOptions,
  TokenFilter,
  type TokenFilterOptions,
  type TokenScore,
} from "./lib/methods/mod.ts";
export {
  BatchDecoder,
  findRetrievalLayers,
  type LoadedModel,
  loadModel,
  type LoadOptions,
  Model,
  type ModelConfig,
  ModelSequence,
  type RetrievalLayers,
  type SequenceUsage,
  Tokenizer,
} from "./lib/model/mod.ts";
export { ReferenceBackend } from "./lib/reference/mod.ts";
export { f32Data, type HostTensor, hostTensor, type Tensor } from "./lib/tensor.ts";
