/** Rotary embedding as configs describe it: plain, or stretched over more positions than a model was trained on. */
import type { ModelConfig } from "../config/config.ts";
import type { ConfigReader } from "../config/config_reader.ts";
import type { GgufFile } from "../formats/gguf.ts";
import { dequantize } from "../../reference/dequantize.ts";
import { countOf } from "../../tensor.ts";

export type RopeConfig = Pick<ModelConfig, "rope" | "contextLength" | "maxPositions">;

/** Tensors of GGUF files that hold divisors of pairs' angles. */
export const ROPE_TENSORS = ["rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"];

const THETA = 10_000;

/** Names and defaults of the config.json keys that define a layer's rotary embedding. */
const PLACE = {
  /** Prefix of the newer keys. */
  parameters: "rope_parameters.",
  /** The older key of the base. */
  older: "rope_theta",
  /** Whether the older keys' scaling is another layer's. */
  ignoresScaling: false,
  /** The base of a config.json without that key. */
  defaultTheta: THETA,
  /** Whether the length of the first training must be next to the other sizes: without it transformers takes its own. */
  needsOriginal: false,
  /** Whether a config.json may turn a part of each head: for other models transformers turns whole ones all the same. */
  turnsPart: false,
};

export type RopePlace = Partial<typeof PLACE>;

/** The rotary embedding of all layers, over whole heads in GGUF files. @param place Keys of a config.json. */
export function readRope(reader: ConfigReader, headDim: number, place: RopePlace = {}): RopeConfig {
  return reader.isGguf ? readGgufRope(reader, headDim) : readHfRope(reader, headDim, place);
}

export function readHfRope(reader: ConfigReader, headDim: number, place: RopePlace): RopeConfig {
  const { parameters, older, ignoresScaling, defaultTheta, needsOriginal, turnsPart } = {
    ...PLACE,
    ...place,
  };
  const trained = reader.size("max_position_embeddings");
  const at = reader.has(`${parameters}rope_type`) || reader.has(`${parameters}rope_theta`)
    ? parameters
    : "rope_scaling.";
  const theta = reader.positive(reader.oneOf(`${parameters}rope_theta`, older), defaultTheta);
  const partial = reader.oneOf(`${at}partial_rotary_factor`, "partial_rotary_factor");
  const dims = Math.trunc(headDim * reader.positive(partial, 1));
  if (dims % 2 !== 0 || dims < 2 || dims > headDim) {
    throw reader.error(partial, `found ${dims} of the ${headDim} values of a head, expected an even number`);
  }
  if (dims < headDim && !turnsPart) {
    throw reader.error(partial, `found ${dims} of the ${headDim} values of a head, expected all of them`);
  }
  const rope = { theta, ...(dims < headDim && { dims }) };
  const typeKey = reader.has(`${at}rope_type`) ? `${at}rope_type` : `${at}type`;
  const type = at !== parameters && ignoresScaling ? "default" : reader.string(typeKey, "default");
  const pairs = dims / 2;
  const factor = (fallback?: number) => reader.positive(`${at}factor`, fallback);
  const outer = "original_max_position_embeddings";
  const first = reader.size(reader.oneOf(`${at}${outer}`, outer), trained);
  switch (type) {
    case "default":
    case "none":
      return { rope, contextLength: trained };
    case "linear":
      return { rope: { ...rope, factors: Array(pairs).fill(factor()) }, contextLength: trained };
    case "dynamic": {
      const length = reader.options.contextLength ?? trained, by = factor();
      const base = length <= trained ? 1 : (by * length / trained - (by - 1)) ** (dims / (dims - 2));
      const factors = Array.from({ length: pairs }, (_, i) => base ** (2 * i / dims));
      return { rope: base === 1 ? rope : { ...rope, factors }, contextLength: length, maxPositions: length };
    }
    case "llama3": {
      const [low, high] = [reader.positive(`${at}low_freq_factor`), reader.positive(`${at}high_freq_factor`)];
      const factors = llama3Factors(theta, dims, factor(), low, high, first);
      return { rope: { ...rope, factors }, contextLength: trained };
    }
    case "yarn": {
      const by = factor(trained / first);
      const [fast, slow] = [reader.positive(`${at}beta_fast`, 32), reader.positive(`${at}beta_slow`, 1)];
      const truncate = reader.boolean(`${at}truncate`, true);
      const scale = (key: string) =>
        reader.has(at + key) ? yarnMagnitude(by, reader.positive(at + key)) : undefined;
      const [own, all] = [scale("mscale"), scale("mscale_all_dim")];
      const usual = own !== undefined && all !== undefined ? own / all : yarnMagnitude(by);
      return {
        rope: {
          ...rope,
          factors: yarnFactors(theta, dims, by, first, { fast, slow, truncate }),
          magnitude: reader.positive(`${at}attention_factor`, usual),
        },
        contextLength: trained,
      };
    }
    case "longrope":
    case "su": {
      if (needsOriginal) reader.size(outer);
      const by = factor(trained / first), length = reader.options.contextLength ?? first;
      const [short, long] = ["short_factor", "long_factor"].map((key) => reader.positives(at + key, pairs));
      const magnitude = reader.positive(`${at}attention_factor`, longMagnitude(by, first));
      const factors = length > first ? long! : short!;
      return { rope: { ...rope, factors, magnitude }, contextLength: length, maxPositions: length };
    }
  }
  throw reader.error(typeKey, `found "${type}", expected default, linear, dynamic, llama3, yarn or longrope`);
}

function readGgufRope(reader: ConfigReader, headDim: number): RopeConfig {
  const trained = reader.size("context_length"),
    dims = reader.size("rope.dimension_count", headDim),
    pairs = dims / 2;
  if (dims % 2 !== 0 || dims > headDim) {
    throw reader.error(
      "rope.dimension_count",
      `found ${dims}, expected an even part of the head size ${headDim}`,
    );
  }
  const theta = reader.positive("rope.freq_base", THETA);
  const rope = { theta, ...(dims < headDim && { dims }) };
  const type = reader.string("rope.scaling.type", "none");
  const by = reader.positive("rope.scaling.factor", reader.positive("rope.scale_linear", 1));
  const first = reader.size("rope.scaling.original_context_length", trained);
  const attention = reader.positive("rope.scaling.attn_factor", 1);
  const long = ropeTensor(reader, "rope_factors_long.weight", pairs);
  const short = ropeTensor(reader, "rope_factors_short.weight", pairs);
  if (long !== undefined && short !== undefined) {
    const length = reader.options.contextLength ?? first, factors = length > first ? long : short;
    return { rope: { ...rope, factors, magnitude: attention }, contextLength: length, maxPositions: length };
  }
  const given = ropeTensor(reader, "rope_freqs.weight", pairs) ?? Array<number>(pairs).fill(1);
  const stretched = type === "yarn"
    ? yarnFactors(theta, dims, by, first, { fast: 32, slow: 1, truncate: true })
    : Array<number>(pairs).fill(by);
  if (!["none", "linear", "yarn"].includes(type)) {
    throw reader.error("rope.scaling.type", `found "${type}", expected none, linear or yarn`);
  }
  const factors = stretched.map((factor, i) => factor * given[i]!);
  const magnitude = attention * (type === "yarn" ? yarnMagnitude(by) : 1);
  const changes = {
    ...(factors.some((factor) => factor !== 1) && { factors }),
    ...(magnitude !== 1 && { magnitude }),
  };
  return { rope: { ...rope, ...changes }, contextLength: trained };
}

function ropeTensor({ source }: ConfigReader, name: string, length: number): number[] | undefined {
  const file = source as GgufFile, tensor = file.tensors.get(name);
  if (tensor === undefined) return undefined;
  const values = [...dequantize(tensor, 0, countOf(tensor.shape))];
  if (values.length === length && values.every((value) => value > 0 && Number.isFinite(value))) return values;
  throw file.error(name, `found ${values.length} rotary factors, expected ${length}, all positive`);
}

/** Angles of position 1, and the inverse: positions of a whole turn. */
const frequency = (theta: number, dims: number, pair: number) => theta ** (-2 * pair / dims);

/** Llama 3.1: slow pairs are stretched, fast ones stay, those between are in between. */
function llama3Factors(theta: number, dims: number, by: number, low: number, high: number, original: number) {
  return Array.from({ length: dims / 2 }, (_, i) => {
    const turns = original * frequency(theta, dims, i) / (2 * Math.PI);
    if (turns > high) return 1;
    if (turns < low) return by;
    const share = (turns - low) / (high - low);
    return 1 / ((1 - share) / by + share);
  });
}

/** YaRN (arXiv 2309.00071): the same by a ramp over the pairs. */
function yarnFactors(
  theta: number,
  dims: number,
  by: number,
  original: number,
  { fast, slow, truncate }: { fast: number; slow: number; truncate: boolean },
): number[] {
  const pairOf = (turns: number) => dims * Math.log(original / (turns * 2 * Math.PI)) / (2 * Math.log(theta));
  const [from, to] = truncate
    ? [Math.floor(pairOf(fast)), Math.ceil(pairOf(slow))]
    : [pairOf(fast), pairOf(slow)];
  const low = Math.max(from, 0), high = Math.min(to, dims - 1), width = high === low ? 0.001 : high - low;
  return Array.from({ length: dims / 2 }, (_, i) => {
    const share = 1 - Math.min(Math.max((i - low) / width, 0), 1);
    return 1 / ((1 - share) / by + share);
  });
}

function yarnMagnitude(by: number, scale = 1): number {
  return by <= 1 ? 1 : 0.1 * scale * Math.log(by) + 1;
}

/** LongRoPE (arXiv 2402.13753). */
function longMagnitude(by: number, original: number): number {
  return by <= 1 ? 1 : Math.sqrt(1 + Math.log(by) / Math.log(original));
}
