/**
 * Models: from a file or a name to one that runs.
 * @module
 */
export * from "./architectures/architecture.ts";
export * from "./config/config.ts";
export * from "./formats/gguf.ts";
export * from "./formats/safetensors.ts";
export * from "./generate/generate.ts";
export * from "./generate/sampler.ts";
export { drawIds } from "./head_probe.ts";
export * from "./hub/hub.ts";
export * from "./hub/repository.ts";
export * from "./hub/request.ts";
export * from "./load.ts";
export * from "./load_weights.ts";
export * from "./model.ts";
export * from "./open.ts";
export * from "./config/read_config.ts";
export * from "./retrieval.ts";
export * from "./run/batch/batch_decoder.ts";
export * from "./run/batch/batch_state.ts";
export * from "./run/judge_dump.ts";
export * from "./run/log_probabilities.ts";
export * from "./run/sequence.ts";
export * from "./run/usage.ts";
export * from "./tokenizer/chat.ts";
export * from "./tokenizer/tokenizer.ts";
export * from "./weights.ts";
