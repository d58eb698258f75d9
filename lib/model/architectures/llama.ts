/** Llama: rotary attention with grouped heads, SwiGLU; without rotary scaling, biases or experts. */
import type { ConfigReader, ModelConfig } from "../config.ts";
import { ForwardPass } from "../forward_pass.ts";
import type { Architecture, TensorSpec } from "./architecture.ts";

/** The architecture that others are compared with. */
export const llama: Architecture = {
  name: "llama",
  readConfig,
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
    "rope.scale_linear": 1,
    "rope.scaling.factor": 1,
    "rope.scaling.type": "none",
    "use_parallel_residual": false,
  },
  informativeKeys: ["rope.scaling.finetuned", "tensor_data_layout"],
  modelTensors: ({ vocabSize, hiddenSize }) => ({
    embedding: { gguf: "token_embd.weight", shape: [vocabSize, hiddenSize] },
    outputNorm: norm("output_norm.weight", hiddenSize),
    output: { gguf: "output.weight", shape: [vocabSize, hiddenSize] },
  }),
  layerTensors({ hiddenSize, intermediateSize, numHeads, numKvHeads, headDim }) {
    const queryWidth = numHeads * headDim, kvWidth = numKvHeads * headDim;
    return {
      attnNorm: norm("attn_norm.weight", hiddenSize),
      q: { gguf: "attn_q.weight", shape: [queryWidth, hiddenSize] },
      k: { gguf: "attn_k.weight", shape: [kvWidth, hiddenSize] },
      v: { gguf: "attn_v.weight", shape: [kvWidth, hiddenSize] },
      o: { gguf: "attn_output.weight", shape: [hiddenSize, queryWidth] },
      ffnNorm: norm("ffn_norm.weight", hiddenSize),
      gate: { gguf: "ffn_gate.weight", shape: [intermediateSize, hiddenSize] },
      up: { gguf: "ffn_up.weight", shape: [intermediateSize, hiddenSize] },
      down: { gguf: "ffn_down.weight", shape: [hiddenSize, intermediateSize] },
    };
  },
  ForwardPass,
};

/** The weight of an RMSNorm. */
function norm(gguf: string, size: number): TensorSpec {
  return { gguf, shape: [size], dtype: "f32" };
}

function readConfig(reader: ConfigReader): ModelConfig {
  const hiddenSize = reader.size("embedding_length");
  const numHeads = reader.size("attention.head_count");
  const numKvHeads = reader.size("attention.head_count_kv", numHeads);
  if (numHeads % numKvHeads !== 0) {
    throw reader.error(
      "attention.head_count_kv",
      `found ${numKvHeads}, expected a divisor of the ${numHeads} heads`,
    );
  }
  return {
    architecture: reader.architecture,
    numLayers: reader.size("block_count"),
    numHeads,
    numKvHeads,
    headDim: readHeadDim(reader, hiddenSize, numHeads),
    hiddenSize,
    intermediateSize: reader.size("feed_forward_length"),
    vocabSize: readVocabSize(reader),
    rope: { theta: reader.positive("rope.freq_base", 10_000) },
    rmsNormEps: reader.positive("attention.layer_norm_rms_epsilon"),
    contextLength: reader.size("context_length"),
    tieWordEmbeddings: !reader.gguf.tensors.has("output.weight"),
  };
}

function readHeadDim(reader: ConfigReader, hiddenSize: number, numHeads: number): number {
  const keyLength = "attention.key_length", headCount = "attention.head_count";
  if (!reader.has(keyLength) && hiddenSize % numHeads !== 0) {
    throw reader.error(
      headCount,
      `found ${numHeads} heads, expected a divisor of embedding_length ${hiddenSize}`,
    );
  }
  const headDim = reader.size(keyLength, hiddenSize / numHeads);
  if (headDim % 2 !== 0) {
    const key = reader.has(keyLength) ? keyLength : headCount;
    throw reader.error(key, `found heads of ${headDim}, expected an even size`);
  }
  for (const key of ["attention.value_length", "rope.dimension_count"]) {
    const other = reader.size(key, headDim);
    if (other !== headDim) throw reader.error(key, `found ${other}, expected the head size ${headDim}`);
  }
  return headDim;
}

function readVocabSize(reader: ConfigReader): number {
  const tokens = reader.gguf.strings("tokenizer.ggml.tokens").length;
  const vocabSize = reader.size("vocab_size", tokens);
  if (vocabSize !== tokens) {
    throw reader.error("vocab_size", `found ${vocabSize}, expected the ${tokens} of tokenizer.ggml.tokens`);
  }
  return vocabSize;
}
