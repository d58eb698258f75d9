/**
 * Models: from a file or a name to one that runs.
 * @module
 */
export * from "./config.ts";
export * from "./formats/gguf.ts";
export * from "./formats/safetensors.ts";
export * from "./hub.ts";
export { type CacheDType } from "./kv_cache.ts";
export * from "./llama.ts";
export { LlamaSequence, type SequenceUsage } from "./llama_sequence.ts";
export * from "./load.ts";
export * from "./tokenizer.ts";
export * from "./weights.ts";
