/** Mistral: Llama with a window in every layer. Its GGUF files call themselves `llama`. */
import type { Architecture } from "./architecture.ts";
import { llama, readSizes } from "./llama.ts";
import { readEveryWindow } from "./windows.ts";

/** The window of a config.json without that key. The value null means no window. */
const USUAL_WINDOW = 4096;

/** Llama with a sliding window, unless the config disables it. */
export const mistral: Architecture = {
  ...llama,
  name: "mistral",
  gguf: undefined,
  hf: { ...llama.hf, name: "MistralForCausalLM" },
  readConfig(reader) {
    const config = readSizes(reader);
    return { ...config, ...readEveryWindow(reader, config.numLayers, USUAL_WINDOW) };
  },
};
