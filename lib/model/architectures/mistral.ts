/** Mistral: Llama with a window in every layer. Its GGUF files call themselves `llama`. */
import type { Architecture } from "./architecture.ts";
import { llama, readSizes } from "./llama.ts";
import { readEveryWindow } from "./windows.ts";

/** Llama with a sliding window, where the config says so. */
export const mistral: Architecture = {
  ...llama,
  name: "mistral",
  gguf: undefined,
  hf: { ...llama.hf, name: "MistralForCausalLM" },
  readConfig(reader) {
    const config = readSizes(reader);
    return { ...config, ...readEveryWindow(reader, config.numLayers) };
  },
};
