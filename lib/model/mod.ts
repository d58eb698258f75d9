/**
 * Models: from a file or a name to one that runs.
 * @module
 */
export { BatchDecoder, type BatchOptions } from "./run/batch_decoder.ts";
export { type TensorSpec } from "./architectures/architecture.ts";
export * from "./run/batch_state.ts";
export * from "./tokenizer/chat.ts";
export * from "./config.ts";
export { type ConfigOptions, type ModelSource } from "./config_reader.ts";
export * from "./read_config.ts";
export { type FileTensor } from "./formats/_file_tensor.ts";
export { type KeyedFile } from "./formats/_keyed_file.ts";
export { type HfFolder, readHfFolder } from "./formats/hf_folder.ts";
export { GgufFile, type GgufScalar, type GgufValue, type GgufValueType, parseGguf } from "./formats/gguf.ts";
export { parseSafetensors, type SafetensorsFile, writeSafetensors } from "./formats/safetensors.ts";
export { type SequenceFeed } from "./run/feed_together.ts";
export * from "./generate/generate.ts";
export { obtainDataset } from "./hub/repository.ts";
export {
  type HubOptions,
  locateModel,
  locatePath,
  MODEL_NAMES,
  type ModelProgress,
  type ReadOptions,
  type ResolvedModel,
  resolveModel,
  type ResolveOptions,
  type RunCommand,
} from "./hub/hub.ts";
export { judgeDump } from "./run/judge_dump.ts";
export * from "./run/log_probabilities.ts";
export * from "./model.ts";
export { createTurns, type Rope } from "./rope.ts";
export {
  type Candidates,
  indexOfMax,
  kthLargest,
  Sampler,
  SAMPLING,
  type SamplingOptions,
} from "./generate/sampler.ts";
export { ModelSequence, type SequenceOptions } from "./run/sequence.ts";
export * from "./load.ts";
export * from "./tokenizer/tokenizer.ts";
export * from "./tokenizer/tokenizer_digest.ts";
export { type SequenceUsage } from "./run/usage.ts";
export { createWeights, loadWeights } from "./load_weights.ts";
export { type LayerWeights, type ModelWeights, uploadWeights } from "./weights.ts";
