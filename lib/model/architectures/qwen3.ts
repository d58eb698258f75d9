/** Qwen3: Llama with a norm over each head of queries and keys. */
import type { ModelConfig } from "../config/config.ts";
import type { Architecture, TensorSpec } from "./architecture.ts";
import { llama, norm, readBiases, readSizes } from "./llama.ts";
import { readUpperWindows } from "./windows.ts";

/** Norms of heads, whose values lie as those of the heads do. */
export function headNorms({ headDim }: ModelConfig): { readonly [name: string]: TensorSpec } {
  return {
    qNorm: { ...norm("attn_q_norm.weight", "self_attn.q_norm.weight", headDim), rotaryHeads: 1 },
    kNorm: { ...norm("attn_k_norm.weight", "self_attn.k_norm.weight", headDim), rotaryHeads: 1 },
  };
}

/** Llama with norms of heads. */
export const qwen3: Architecture = {
  ...llama,
  name: "qwen3",
  gguf: { ...llama.gguf!, name: "qwen3", rotary: "halves" },
  hf: { ...llama.hf, name: "Qwen3ForCausalLM" },
  readConfig(reader) {
    const config = readSizes(reader);
    return { ...config, ...readUpperWindows(reader, config.numLayers), ...readBiases(reader) };
  },
  layerTensors: (config) => ({ ...llama.layerTensors(config), ...headNorms(config) }),
};
