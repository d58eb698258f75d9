/** A model's sizes: the keys that files use, and what this project calls them. */
import type { CostShape } from "../cost.ts";
import type { GgufFile } from "./formats/gguf.ts";

/** Sizes and constants of a Llama model. `numKvHeads` divides `numHeads`, and `headDim` is even. */
export interface ModelConfig extends CostShape {
  /** Base of the rotary embedding's frequencies. */
  readonly ropeTheta: number;
  /** Added to the mean square in RMSNorm. */
  readonly rmsNormEps: number;
  /** Positions that the model was trained on. */
  readonly contextLength: number;
  /** Whether the output projection is the embedding. */
  readonly tieWordEmbeddings: boolean;
}

/** Keys that {@linkcode readModelConfig} takes its numbers from. */
const READ_KEYS = new Set([
  "llama.attention.head_count",
  "llama.attention.head_count_kv",
  "llama.attention.key_length",
  "llama.attention.layer_norm_rms_epsilon",
  "llama.attention.value_length",
  "llama.block_count",
  "llama.context_length",
  "llama.embedding_length",
  "llama.feed_forward_length",
  "llama.rope.dimension_count",
  "llama.rope.freq_base",
  "llama.vocab_size",
]);

/** Keys that change what a model computes, and the one value of each that changes nothing. */
const NEUTRAL_VALUES: { readonly [key: string]: string | number | boolean } = {
  "general.type": "model",
  "llama.attention.causal": true,
  "llama.attention.clamp_kqv": 0,
  "llama.attention.max_alibi_bias": 0,
  "llama.attention.sliding_window": 0,
  "llama.embedding_scale": 1,
  "llama.expert_count": 0,
  "llama.expert_used_count": 0,
  "llama.logit_scale": 1,
  "llama.residual_scale": 1,
  "llama.rope.scale_linear": 1,
  "llama.rope.scaling.factor": 1,
  "llama.rope.scaling.type": "none",
  "llama.use_parallel_residual": false,
  "split.count": 1,
};

/** Keys that say how the model was made, not what it computes. */
const INFORMATIVE_KEYS = new Set(["llama.rope.scaling.finetuned", "llama.tensor_data_layout"]);

/** Memory that one layer's shapes could ask for stays countable: the largest models have 2^14 or 2^18 of each. */
const MAX_SIZE = 2 ** 24;

/**
 * Reads a model's sizes from a GGUF file's metadata.
 *
 * Whatever could change the model's results and is not known here is an error: every key that begins with `llama.`
 * must be one of those above. (Keys under other prefixes, `tokenizer.` aside, are notes about the file.)
 *
 * @throws {ModelFormatError} If the architecture is not `llama`, a key is missing, of a wrong type, out of range or
 * not known; the message names the key.
 *
 * @example
 * ```ts
 * import { parseGguf, readModelConfig, resolveModel } from "@tokenfilter/tokenfilter/model";
 * const { bytes, path } = await resolveModel("tiny");
 * console.assert(readModelConfig(parseGguf(bytes, path)).numLayers === 10);
 * ```
 */
export function readModelConfig(gguf: GgufFile): ModelConfig {
  const architecture = gguf.string("general.architecture");
  if (architecture !== "llama") {
    throw gguf.error(
      "general.architecture",
      `found "${architecture}", expected "llama", the one that runs here`,
    );
  }
  expectKnownKeys(gguf);

  const size = (key: string, fallback?: number): number => {
    const value = gguf.integer(key, fallback);
    if (value < 1 || value > MAX_SIZE) throw gguf.error(key, `found ${value}, expected 1 to ${MAX_SIZE}`);
    return value;
  };
  const hiddenSize = size("llama.embedding_length");
  const numHeads = size("llama.attention.head_count");
  const numKvHeads = size("llama.attention.head_count_kv", numHeads);
  if (numHeads % numKvHeads !== 0) {
    throw gguf.error(
      "llama.attention.head_count_kv",
      `found ${numKvHeads}, expected a divisor of the ${numHeads} heads`,
    );
  }
  return {
    numLayers: size("llama.block_count"),
    numHeads,
    numKvHeads,
    headDim: readHeadDim(gguf, hiddenSize, numHeads, size),
    hiddenSize,
    intermediateSize: size("llama.feed_forward_length"),
    vocabSize: readVocabSize(gguf, size),
    ropeTheta: positive(gguf, "llama.rope.freq_base", 10_000),
    rmsNormEps: positive(gguf, "llama.attention.layer_norm_rms_epsilon"),
    contextLength: size("llama.context_length"),
    tieWordEmbeddings: !gguf.tensors.has("output.weight"),
  };
}

function expectKnownKeys(gguf: GgufFile): void {
  for (const [key, { value }] of gguf.metadata) {
    if (Object.hasOwn(NEUTRAL_VALUES, key)) {
      const neutral = NEUTRAL_VALUES[key]!;
      const found = typeof value === "bigint" ? Number(value) : value;
      if (found !== neutral) {
        throw gguf.error(
          key,
          `found ${JSON.stringify(found)}, expected ${JSON.stringify(neutral)} or no such key`,
        );
      }
    } else if (key.startsWith("llama.") && !READ_KEYS.has(key) && !INFORMATIVE_KEYS.has(key)) {
      throw gguf.error(key, "found a key that this project does not know, so its results could be wrong");
    }
  }
}

function readHeadDim(
  gguf: GgufFile,
  hiddenSize: number,
  numHeads: number,
  size: (key: string, fallback?: number) => number,
): number {
  const keyLength = "llama.attention.key_length", valueLength = "llama.attention.value_length";
  if (!gguf.has(keyLength) && hiddenSize % numHeads !== 0) {
    throw gguf.error(
      "llama.attention.head_count",
      `found ${numHeads} heads, expected a divisor of embedding_length ${hiddenSize}`,
    );
  }
  const headDim = size(keyLength, hiddenSize / numHeads);
  if (headDim % 2 !== 0) {
    throw gguf.error(
      gguf.has(keyLength) ? keyLength : "llama.attention.head_count",
      `found heads of ${headDim}, expected an even size`,
    );
  }
  for (const key of [valueLength, "llama.rope.dimension_count"]) {
    const other = size(key, headDim);
    if (other !== headDim) throw gguf.error(key, `found ${other}, expected the head size ${headDim}`);
  }
  return headDim;
}

function readVocabSize(gguf: GgufFile, size: (key: string, fallback?: number) => number): number {
  const tokens = gguf.strings("tokenizer.ggml.tokens").length;
  const vocabSize = size("llama.vocab_size", tokens);
  if (vocabSize !== tokens) {
    throw gguf.error(
      "llama.vocab_size",
      `found ${vocabSize}, expected the ${tokens} of tokenizer.ggml.tokens`,
    );
  }
  return vocabSize;
}

function positive(gguf: GgufFile, key: string, fallback?: number): number {
  const value = gguf.number(key, fallback);
  if (value <= 0) throw gguf.error(key, `found ${value}, expected a positive number`);
  return value;
}
