/** Phi-3 and Phi-4: Llama whose projections lie in two tensors; rotary embedding over a part of a head, LongRoPE. */
import type { Architecture, TensorSpec } from "./architecture.ts";
import { llama, readSizes } from "./llama.ts";
import { readEveryWindow } from "./windows.ts";

/** Llama with fused projections. */
export const phi3: Architecture = {
  ...llama,
  name: "phi3",
  gguf: { ...llama.gguf!, name: "phi3", rotary: "halves" },
  hf: {
    ...llama.hf,
    name: "Phi3ForCausalLM",
    neutralKeys: { ...llama.hf.neutralKeys, "attention_bias": false, "embd_pdrop": 0, "resid_pdrop": 0 },
    informativeKeys: [
      ...llama.hf.informativeKeys,
      "auto_map.AutoConfig",
      "auto_map.AutoModelForCausalLM",
      "auto_map.AutoTokenizer",
      "interpolate_factor",
      "lm_head_bias",
    ],
  },
  readConfig(reader) {
    const config = readSizes(reader, { needsOriginal: true, turnsPart: true });
    return { ...config, ...readEveryWindow(reader, config.numLayers) };
  },
  layerTensors(config) {
    const tensors = llama.layerTensors(config);
    const { q, k, v, gate, up } = tensors as { readonly [name: string]: TensorSpec };
    return {
      ...tensors,
      ...fuse("attn_qkv.weight", "self_attn.qkv_proj.weight", { q: q!, k: k!, v: v! }),
      ...fuse("ffn_up.weight", "mlp.gate_up_proj.weight", { gate: gate!, up: up! }),
    };
  },
};

/** Tensors as rows of one, in their order. */
function fuse<Name extends string>(
  gguf: string,
  hf: string,
  tensors: { readonly [name in Name]: TensorSpec },
) {
  const entries = Object.entries<TensorSpec>(tensors);
  const total = entries.reduce((sum, [, { shape }]) => sum + shape[0]!, 0);
  let first = 0;
  const fused = entries.map(([name, tensor]) => {
    const place = { ...tensor, gguf, hf, fused: [first, total] as const };
    first += tensor.shape[0]!;
    return [name, place] as const;
  });
  return Object.fromEntries(fused) as { readonly [name in Name]: TensorSpec };
}
