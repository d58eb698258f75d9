/** Gemma 3, its text part: norms of heads and after blocks, GeGLU, a scaled embedding, local and global layers. */
import type { BatchDecisions } from "../../batch_ops.ts";
import type { Tensor } from "../../tensor.ts";
import type { ConfigReader } from "../config/config_reader.ts";
import { type Addend, ForwardPass } from "../run/forward_pass.ts";
import type { Architecture, TensorSpec } from "./architecture.ts";
import { llama, norm, readBiases, readSizes } from "./llama.ts";
import { headNorms } from "./qwen3.ts";
import { readHfRope } from "./rope_config.ts";
import { readLocalLayers, WINDOW } from "./windows.ts";

/** Bases of local and global layers, if a file does not specify it. */
const LOCAL_THETA = 10_000, GLOBAL_THETA = 1_000_000;
/** Interval of the global layers, each the last of its group, if a file does not specify it. */
const PATTERN = 6;
/**
 * Queries are divided by the root of this number if a config.json does not specify it. It is not the size of the heads.
 */
const QUERY_SCALAR = 256;

class Gemma3ForwardPass extends ForwardPass {
  override embed(ids: Tensor, out: Tensor): void {
    const { backend, config: { hiddenSize }, weights } = this.model;
    backend.embedding(weights.embedding, ids, out, Math.sqrt(hiddenSize));
  }

  override output(layer: number, attended: Tensor, only?: BatchDecisions): Tensor {
    return this.norm(layer, "attnPostNorm", super.output(layer, attended, only), { to: "o" });
  }

  protected override mlp(layer: number, x: Tensor, left?: Addend): Addend {
    const gated = this.gated(layer, this.norm(layer, "ffnNorm", x, { left }), "geglu");
    return { delta: this.norm(layer, "ffnPostNorm", this.project(layer, "down", gated), { to: "down" }) };
  }
}

export const gemma3: Architecture = {
  ...llama,
  name: "gemma3",
  gguf: { ...llama.gguf!, name: "gemma3", rotary: "halves" },
  hf: {
    ...llama.hf,
    name: "Gemma3ForCausalLM",
    neutralKeys: {
      ...llama.hf.neutralKeys,
      "hidden_activation": "gelu_pytorch_tanh",
      "hidden_act": "gelu_pytorch_tanh",
      // Keys that transformers 5.2 adds where no layer is local, or none global.
      "rope_parameters.rope_type": "default",
    },
    informativeKeys: [...llama.hf.informativeKeys, "cache_implementation"],
  },
  readConfig(reader) {
    const config = readSizes(reader, {
      parameters: "rope_parameters.full_attention.",
      defaultTheta: GLOBAL_THETA,
    });
    const local = readLocal(reader, config.numLayers), window = reader.size(WINDOW);
    const rope = readLocalRope(reader, config.headDim);
    const layers = local.map((isLocal) => isLocal ? { rope, window } : {});
    const scalar = reader.isGguf ? config.headDim : reader.positive("query_pre_attn_scalar", QUERY_SCALAR);
    return { ...config, layers, attentionScale: 1 / Math.sqrt(scalar), ...readBiases(reader) };
  },
  modelTensors(config) {
    const tensors = llama.modelTensors(config);
    return { ...tensors, outputNorm: { ...tensors.outputNorm, hfOffset: 1 } };
  },
  layerTensors(config) {
    const { hiddenSize } = config, tensors = llama.layerTensors(config);
    const norms = {
      attnNorm: tensors.attnNorm,
      attnPostNorm: norm("post_attention_norm.weight", "post_attention_layernorm.weight", hiddenSize),
      ffnNorm: { ...tensors.ffnNorm, hf: "pre_feedforward_layernorm.weight" },
      ffnPostNorm: norm("post_ffw_norm.weight", "post_feedforward_layernorm.weight", hiddenSize),
      ...headNorms(config),
    };
    const offset = Object.entries<TensorSpec>(norms).map(([name, spec]) => [name, { ...spec, hfOffset: 1 }]);
    return { ...tensors, ...Object.fromEntries(offset) };
  },
  ForwardPass: Gemma3ForwardPass,
};

function readLocal(reader: ConfigReader, numLayers: number): boolean[] {
  const key = reader.isGguf ? "attention.sliding_window_pattern" : "sliding_window_pattern";
  const pattern = reader.size(key, PATTERN), note = `_${key}`;
  const listed = reader.isGguf ? undefined : readLocalLayers(reader, numLayers);
  // transformers writes this key next to its list of layers, and does not read it: without the list it must agree.
  if (!reader.isGguf && reader.size(note, pattern) !== pattern && listed === undefined) {
    throw reader.error(
      note,
      `found ${reader.size(note)}, expected the ${pattern} of "${key}", or layer_types`,
    );
  }
  return listed ?? Array.from({ length: numLayers }, (_, layer) => (layer + 1) % pattern !== 0);
}

function readLocalRope(reader: ConfigReader, headDim: number) {
  if (reader.isGguf) return { theta: reader.positive("rope.freq_base_swa", LOCAL_THETA) };
  const place = {
    parameters: "rope_parameters.sliding_attention.",
    older: "rope_local_base_freq",
    ignoresScaling: true,
    defaultTheta: LOCAL_THETA,
  };
  return readHfRope(reader, headDim, place).rope;
}
