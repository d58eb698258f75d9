/**
 * Models: from a file or a name to one that runs.
 * @module
 */
export { type TensorSpec } from "./architectures/architecture.ts";
export { type ModelConfig } from "./config.ts";
export { parseGguf } from "./formats/gguf.ts";
export { parseSafetensors, writeSafetensors } from "./formats/safetensors.ts";
export { generateTokens, type GenerationOptions } from "./generate/generate.ts";
export { Sampler, SAMPLING, type SamplingOptions } from "./generate/sampler.ts";
export { locateModel, locatePath, MODEL_NAMES, type ModelProgress, resolveModel } from "./hub/hub.ts";
export { obtainDataset } from "./hub/repository.ts";
export { endpointOf, type HubOptions } from "./hub/request.ts";
export {
  expectFinite,
  type LoadedModel,
  loadModel,
  type LoadOptions,
  type ModelFile,
  type OpenOptions,
  readModelFile,
} from "./load.ts";
export { createWeights, loadWeights } from "./load_weights.ts";
export { Model } from "./model.ts";
export { readConfigText, readModelConfig } from "./read_config.ts";
export { findRetrievalLayers, type RetrievalLayers, retrievalOf, retrievalScores } from "./retrieval.ts";
export { BatchDecoder } from "./run/batch_decoder.ts";
export { createBatchCache, createBatchDecisions, createBatchStates } from "./run/batch_state.ts";
export { judgeDump } from "./run/judge_dump.ts";
export { logProbabilities, type TokenLogProbability } from "./run/log_probabilities.ts";
export { ModelSequence } from "./run/sequence.ts";
export { type SequenceUsage } from "./run/usage.ts";
export { type ChatMessage, encodeChat, renderChat } from "./tokenizer/chat.ts";
export { digestTokenizer, Tokenizer } from "./tokenizer/tokenizer.ts";
export { type ModelWeights, uploadWeights } from "./weights.ts";
