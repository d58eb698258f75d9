/** Qwen2 and Qwen2.5: Llama with biases on queries, keys and values. */
import type { Architecture } from "./architecture.ts";
import { llama, readSizes } from "./llama.ts";
import { readUpperWindows } from "./windows.ts";

/** Llama with three biases. */
export const qwen2: Architecture = {
  ...llama,
  name: "qwen2",
  gguf: { ...llama.gguf!, name: "qwen2", rotary: "halves" },
  hf: { ...llama.hf, name: "Qwen2ForCausalLM" },
  readConfig(reader) {
    const config = readSizes(reader);
    return { ...config, ...readUpperWindows(reader, config.numLayers), biases: ["q", "k", "v"] };
  },
};
