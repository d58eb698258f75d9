/** Llama: rotary attention with grouped heads, SwiGLU; without experts. */
import type { ModelConfig } from "../config/config.ts";
import type { ConfigReader, Key } from "../config/config_reader.ts";
import { ForwardPass } from "../run/forward_pass.ts";
import type { GgufFile } from "../formats/gguf.ts";
import type { Architecture, TensorSpec } from "./architecture.ts";
import { readRope, type RopePlace } from "./rope_config.ts";

/** The architecture that others are compared with. */
export const llama: Architecture = {
  name: "llama",
  gguf: {
    name: "llama",
    rotary: "pairs",
    neutralKeys: {
      "attention.causal": true,
      "attention.clamp_kqv": 0,
      "attention.max_alibi_bias": 0,
      "attention.sliding_window": 0,
      "embedding_scale": 1,
      "expert_count": 0,
      "expert_used_count": 0,
      "logit_scale": 1,
      "residual_scale": 1,
      "use_parallel_residual": false,
    },
    informativeKeys: ["rope.scaling.finetuned", "tensor_data_layout"],
  },
  hf: {
    name: "LlamaForCausalLM",
    neutralKeys: {
      "attention_dropout": 0,
      "hidden_act": "silu",
      "is_decoder": true,
      "pretraining_tp": 1,
      "use_bidirectional_attention": false,
    },
    informativeKeys: [
      "_model_name_or_path",
      "_name_or_path",
      "architectures",
      "bos_token_id",
      "chunk_size_feed_forward",
      "dtype",
      "eos_token_id",
      "initializer_range",
      "is_encoder_decoder",
      "model_type",
      "output_attentions",
      "output_hidden_states",
      "pad_token_id",
      "problem_type",
      "return_dict",
      "tokenizer_class",
      "torch_dtype",
      "transformers_version",
      "unk_token_id",
      "unsloth_fixed",
      "unsloth_version",
      "use_cache",
    ],
  },
  readConfig: (reader) => ({ ...readSizes(reader), ...readBiases(reader) }),
  modelTensors: ({ vocabSize, hiddenSize }) => ({
    embedding: { gguf: "token_embd.weight", hf: "model.embed_tokens.weight", shape: [vocabSize, hiddenSize] },
    outputNorm: norm("output_norm.weight", "model.norm.weight", hiddenSize),
    output: { gguf: "output.weight", hf: "lm_head.weight", shape: [vocabSize, hiddenSize] },
  }),
  layerTensors(config) {
    const { hiddenSize, intermediateSize, numHeads, numKvHeads, headDim } = config;
    const queryWidth = numHeads * headDim, kvWidth = numKvHeads * headDim;
    const tensors = {
      attnNorm: norm("attn_norm.weight", "input_layernorm.weight", hiddenSize),
      q: { ...matrix("attn_q", "self_attn.q_proj", queryWidth, hiddenSize), rotaryHeads: numHeads },
      k: { ...matrix("attn_k", "self_attn.k_proj", kvWidth, hiddenSize), rotaryHeads: numKvHeads },
      v: matrix("attn_v", "self_attn.v_proj", kvWidth, hiddenSize),
      o: matrix("attn_output", "self_attn.o_proj", hiddenSize, queryWidth),
      ffnNorm: norm("ffn_norm.weight", "post_attention_layernorm.weight", hiddenSize),
      gate: matrix("ffn_gate", "mlp.gate_proj", intermediateSize, hiddenSize),
      up: matrix("ffn_up", "mlp.up_proj", intermediateSize, hiddenSize),
      down: matrix("ffn_down", "mlp.down_proj", hiddenSize, intermediateSize),
    };
    return { ...tensors, ...biasTensors(tensors, config.biases ?? []) };
  },
  ForwardPass,
};

const KEYS = {
  hiddenSize: { gguf: "embedding_length", hf: "hidden_size" },
  numHeads: { gguf: "attention.head_count", hf: "num_attention_heads" },
  numKvHeads: { gguf: "attention.head_count_kv", hf: "num_key_value_heads" },
  numLayers: { gguf: "block_count", hf: "num_hidden_layers" },
  intermediateSize: { gguf: "feed_forward_length", hf: "intermediate_size" },
  rmsNormEps: { gguf: "attention.layer_norm_rms_epsilon", hf: "rms_norm_eps" },
  headDim: { gguf: "attention.key_length", hf: "head_dim" },
} satisfies { readonly [name: string]: Key };

/** Projections by their names in GGUF files. */
const PROJECTIONS: { readonly [name: string]: string } = {
  q: "attn_q",
  k: "attn_k",
  v: "attn_v",
  o: "attn_output",
  gate: "ffn_gate",
  up: "ffn_up",
  down: "ffn_down",
};

export function norm(gguf: string, hf: string, size: number): TensorSpec {
  return { gguf, hf, shape: [size], dtype: "f32" };
}

/** A projection's weight; names without their ending. */
export function matrix(gguf: string, hf: string, outputs: number, inputs: number): TensorSpec {
  return { gguf: `${gguf}.weight`, hf: `${hf}.weight`, shape: [outputs, inputs] };
}

function biasTensors(
  tensors: { readonly [name: string]: TensorSpec },
  biases: readonly string[],
): { readonly [name: string]: TensorSpec } {
  const bias = ({ gguf, hf, shape, ...rest }: TensorSpec): TensorSpec => ({
    ...rest,
    gguf: gguf.replace(/weight$/, "bias"),
    hf: hf.replace(/weight$/, "bias"),
    shape: shape.slice(0, 1),
    dtype: "f32",
  });
  return Object.fromEntries(biases.map((name) => [`${name}Bias`, bias(tensors[name]!)]));
}

/**
 * Sizes that all architectures have, and the rotary embedding.
 *
 * @param place Its keys in a config.json.
 * @throws {ModelFormatError} If a size is missing or does not fit.
 */
export function readSizes(reader: ConfigReader, place?: RopePlace): ModelConfig {
  const hiddenSize = reader.size(KEYS.hiddenSize), numHeads = reader.size(KEYS.numHeads);
  const numKvHeads = reader.size(KEYS.numKvHeads, numHeads);
  if (numHeads % numKvHeads !== 0) {
    throw reader.error(KEYS.numKvHeads, `found ${numKvHeads}, expected a divisor of the ${numHeads} heads`);
  }
  const headDim = readHeadDim(reader, hiddenSize, numHeads);
  const { rope, ...positions } = readRope(reader, headDim, place);
  return {
    architecture: reader.architecture,
    numLayers: reader.size(KEYS.numLayers),
    numHeads,
    numKvHeads,
    headDim,
    hiddenSize,
    intermediateSize: reader.size(KEYS.intermediateSize),
    vocabSize: readVocabSize(reader),
    rope,
    rmsNormEps: reader.positive(KEYS.rmsNormEps),
    ...positions,
    tieWordEmbeddings: readTie(reader),
  };
}

function readHeadDim(reader: ConfigReader, hiddenSize: number, numHeads: number): number {
  if (!reader.has(KEYS.headDim) && hiddenSize % numHeads !== 0) {
    const width = reader.isGguf ? "embedding_length" : "hidden_size";
    throw reader.error(
      KEYS.numHeads,
      `found ${numHeads} heads, expected a divisor of ${width} ${hiddenSize}`,
    );
  }
  const headDim = reader.size(KEYS.headDim, hiddenSize / numHeads);
  if (headDim % 2 !== 0) {
    const key = reader.has(KEYS.headDim) ? KEYS.headDim : KEYS.numHeads;
    throw reader.error(key, `found heads of ${headDim}, expected an even size`);
  }
  const valueLength = "attention.value_length",
    other = reader.isGguf ? reader.size(valueLength, headDim) : headDim;
  if (other !== headDim) throw reader.error(valueLength, `found ${other}, expected the head size ${headDim}`);
  return headDim;
}

function readVocabSize(reader: ConfigReader): number {
  if (!reader.isGguf) return reader.size("vocab_size");
  const tokens = (reader.source as GgufFile).strings("tokenizer.ggml.tokens").length;
  const vocabSize = reader.size("vocab_size", tokens);
  if (vocabSize !== tokens) {
    throw reader.error("vocab_size", `found ${vocabSize}, expected the ${tokens} of tokenizer.ggml.tokens`);
  }
  return vocabSize;
}

function readTie(reader: ConfigReader): boolean {
  const { tensors } = reader.source;
  return reader.isGguf
    ? !tensors.has("output.weight")
    : reader.boolean("tie_word_embeddings", !tensors.has("lm_head.weight"));
}

/** Projections that have biases: two keys of a config.json set them; in a GGUF file the tensors present do. */
export function readBiases(reader: ConfigReader): Pick<ModelConfig, "biases"> {
  const names = reader.isGguf
    ? Object.keys(PROJECTIONS).filter((name) => reader.source.tensors.has(`blk.0.${PROJECTIONS[name]}.bias`))
    : [
      ...(reader.boolean("attention_bias", false) ? ["q", "k", "v", "o"] : []),
      ...(reader.boolean("mlp_bias", false) ? ["gate", "up", "down"] : []),
    ];
  return names.length > 0 ? { biases: names } : {};
}
