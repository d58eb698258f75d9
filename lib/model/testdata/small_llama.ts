/** A well-formed one-block Llama with a SentencePiece vocabulary, as parts that a test may break. */
import type { Entry, GgufParts, TensorEntry } from "./gguf_builder.ts";

/** Every token: three control tokens, the 256 bytes, and a few pieces with their scores. */
const PIECES: readonly [piece: string, score: number, type: number][] = [
  ["<unk>", 0, 2],
  ["<s>", 0, 3],
  ["</s>", 0, 3],
  ...Array.from(
    { length: 256 },
    (_, byte) =>
      [`<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`, 0, 6] as [string, number, number],
  ),
  ["\u2581", -8, 1],
  ["a", -9, 1],
  ["b", -10, 1],
  ["ab", -1, 1],
  ["\u2581a", -2, 1],
];

/** Vocabulary size of {@linkcode smallLlama}. */
export const SMALL_VOCAB_SIZE = PIECES.length;

/** Sizes: hidden 8, 2 query heads and 1 KV head of 4, MLP 16. */
export function smallLlama(): { entries: Map<string, Entry>; tensors: Map<string, TensorEntry> } {
  const entries: Entry[] = [
    ["general.architecture", "string", "llama"],
    ["llama.block_count", "uint32", 1],
    ["llama.context_length", "uint32", 64],
    ["llama.embedding_length", "uint32", 8],
    ["llama.feed_forward_length", "uint32", 16],
    ["llama.attention.head_count", "uint32", 2],
    ["llama.attention.head_count_kv", "uint32", 1],
    ["llama.attention.layer_norm_rms_epsilon", "float32", 2 ** -16],
    ["llama.rope.dimension_count", "uint32", 4],
    ["llama.rope.freq_base", "float32", 5000],
    ["llama.vocab_size", "uint32", SMALL_VOCAB_SIZE],
    ["tokenizer.ggml.model", "string", "llama"],
    ["tokenizer.ggml.pre", "string", "default"],
    ["tokenizer.ggml.tokens", ["string"], PIECES.map(([piece]) => piece)],
    ["tokenizer.ggml.scores", ["float32"], PIECES.map(([, score]) => score)],
    ["tokenizer.ggml.token_type", ["int32"], PIECES.map(([, , type]) => type)],
    ["tokenizer.ggml.bos_token_id", "uint32", 1],
    ["tokenizer.ggml.eos_token_id", "uint32", 2],
    ["tokenizer.ggml.add_bos_token", "bool", true],
  ];
  const shapes: [string, number[]][] = [
    ["token_embd.weight", [8, SMALL_VOCAB_SIZE]],
    ["blk.0.attn_norm.weight", [8]],
    ["blk.0.attn_q.weight", [8, 8]],
    ["blk.0.attn_k.weight", [8, 4]],
    ["blk.0.attn_v.weight", [8, 4]],
    ["blk.0.attn_output.weight", [8, 8]],
    ["blk.0.ffn_norm.weight", [8]],
    ["blk.0.ffn_gate.weight", [8, 16]],
    ["blk.0.ffn_up.weight", [8, 16]],
    ["blk.0.ffn_down.weight", [16, 8]],
    ["output_norm.weight", [8]],
  ];
  return {
    entries: new Map(entries.map((entry) => [entry[0], entry])),
    tensors: new Map(shapes.map(([name, dims]) => [name, f32Tensor(name, dims)])),
  };
}

/** A tensor of 0.01, 0.02, … 0.07, 0.01, … with GGUF's order of dimensions. */
export function f32Tensor(name: string, dims: readonly number[]): TensorEntry {
  const count = dims.reduce((a, b) => a * b, 1);
  const values = Float32Array.from({ length: count }, (_, i) => (1 + i % 7) / 100);
  return { name, dims, type: 0, data: new Uint8Array(values.buffer) };
}

/** The parts as `buildGguf` takes them, with some entries replaced, added, or (undefined) left out. */
export function smallLlamaParts(
  entries: { readonly [key: string]: Entry | undefined } = {},
  tensors: { readonly [name: string]: TensorEntry | undefined } = {},
): GgufParts {
  const parts = smallLlama();
  const patch = <T>(map: Map<string, T>, patches: { readonly [key: string]: T | undefined }) => {
    for (const [key, value] of Object.entries(patches)) {
      if (value === undefined) map.delete(key);
      else map.set(key, value);
    }
    return [...map.values()];
  };
  return { entries: patch(parts.entries, entries), tensors: patch(parts.tensors, tensors) };
}
