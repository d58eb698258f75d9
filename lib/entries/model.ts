/**
 * What a model is made of and runs on: its file, sizes and weights; tensors, and the ops of a backend.
 *
 * ```ts
 * import { parseGguf, readModelConfig, resolveModel } from "@tokenfilter/tokenfilter/model";
 * const { bytes, path } = await resolveModel("tiny");
 * const { numLayers, numHeads } = readModelConfig(parseGguf(bytes, path));
 * console.assert(numLayers === 10 && numHeads % 2 === 0);
 * ```
 * @module
 */
export type {
  AttentionArgs,
  AttentionChanges,
  Gate,
  LogitComparison,
  Product,
  StoredRows,
} from "../backend.ts";
export type {
  BatchCache,
  BatchDecisions,
  BatchKeys,
  BatchOps,
  BatchRows,
  BatchStates,
  RecordedWork,
} from "../batch_ops.ts";
export type { CostShape } from "../cost.ts";
export type { CacheDType, DenseDType, DType, QuantDType, WeightDType } from "../dtype.ts";
export {
  type BatchOptions,
  type Candidates,
  type ChatMessage,
  type ConfigOptions,
  digestTokenizer,
  encodeChat,
  type FileTensor,
  generateTokens,
  type GenerationOptions,
  type GenerationStep,
  GgufFile,
  type GgufScalar,
  type GgufValue,
  type GgufValueType,
  type HfFolder,
  type HubOptions,
  type KeyedFile,
  type LayerConfig,
  type LayerWeights,
  MODEL_NAMES,
  type ModelFile,
  type ModelProgress,
  type ModelSource,
  type ModelWeights,
  type OpenOptions,
  parseGguf,
  parseSafetensors,
  readHfFolder,
  readModelConfig,
  readModelFile,
  type ReadOptions,
  renderChat,
  type ResolvedModel,
  resolveModel,
  type ResolveOptions,
  type Rope,
  type RunCommand,
  type SafetensorsFile,
  Sampler,
  type SamplingOptions,
  type SequenceFeed,
  type SequenceOptions,
  writeSafetensors,
} from "../model/mod.ts";
export type { TensorData } from "../tensor.ts";
