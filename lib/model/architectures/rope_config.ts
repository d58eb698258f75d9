/** Rotary embedding as configs describe it: plain, or stretched over more positions than a model was trained on. */
import type { ModelConfig } from "../config/config.ts";
import type { ConfigReader } from "../config/config_reader.ts";
import type { GgufFile } from "../formats/gguf.ts";
import { dequantize } from "../../reference/dequantize.ts";
import { countOf } from "../../tensor.ts";

type RopeConfig = Pick<ModelConfig, "rope" | "contextLength" | "maxPositions">;

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

/** What the readers of the kinds of scaling share. */
interface RopeSource {
  readonly reader: ConfigReader;
  /** Prefix of the keys of the scaling. */
  readonly at: string;
  /** The plain embedding: its base, and the dimensions of a head that turn where they are not all. */
  readonly plain: ModelConfig["rope"];
  /** Dimensions of a head that turn. */
  readonly dims: number;
  /** `max_position_embeddings`. */
  readonly trained: number;
  /** Length of the first training, before the embedding was stretched. */
  readonly originalLength: number;
  /** Where the length of the first training must be next to the other sizes. */
  readonly required: string | undefined;
  /** The scaling's factor. @throws {ModelError} If there is none, and no fallback. */
  scaling(fallback?: number): number;
}

/** Readers of the kinds of scaling in a config.json, by the kind's name in transformers. */
const ROPE_READERS = new Map<string, (source: RopeSource) => RopeConfig>(Object.entries({
  default: ({ plain, trained }) => ({ rope: plain, contextLength: trained }),
  linear: ({ plain, dims, trained, scaling }) => ({
    rope: { ...plain, factors: Array(dims / 2).fill(scaling()) },
    contextLength: trained,
  }),
  dynamic({ reader, plain, dims, trained, scaling }) {
    const length = reader.options.contextLength ?? trained, stretch = scaling();
    const base = length <= trained ? 1 : (stretch * length / trained - (stretch - 1)) ** (dims / (dims - 2));
    const factors = Array.from({ length: dims / 2 }, (_, i) => base ** (2 * i / dims));
    const rope = base === 1 ? plain : { ...plain, factors };
    return { rope, contextLength: length, maxPositions: length };
  },
  llama3({ reader, at, plain, dims, trained, originalLength, scaling }) {
    const low = reader.positive(`${at}low_freq_factor`), high = reader.positive(`${at}high_freq_factor`);
    const factors = llama3Factors(plain.theta, dims, scaling(), low, high, originalLength);
    return { rope: { ...plain, factors }, contextLength: trained };
  },
  yarn({ reader, at, plain, dims, trained, originalLength, scaling }) {
    const stretch = scaling(trained / originalLength);
    const ramp = {
      fast: reader.positive(`${at}beta_fast`, 32),
      slow: reader.positive(`${at}beta_slow`, 1),
      truncate: reader.boolean(`${at}truncate`, true),
    };
    const magnitudeBy = (key: string) =>
      reader.has(at + key) ? yarnMagnitude(stretch, reader.positive(at + key)) : undefined;
    const mscale = magnitudeBy("mscale"), mscaleAllDims = magnitudeBy("mscale_all_dim");
    const magnitude = mscale !== undefined && mscaleAllDims !== undefined
      ? mscale / mscaleAllDims
      : yarnMagnitude(stretch);
    return {
      rope: {
        ...plain,
        factors: yarnFactors(plain.theta, dims, stretch, originalLength, ramp),
        magnitude: reader.positive(`${at}attention_factor`, magnitude),
      },
      contextLength: trained,
    };
  },
  longrope({ reader, at, plain, dims, trained, originalLength, required, scaling }) {
    if (required !== undefined) reader.size(required);
    const stretch = scaling(trained / originalLength);
    const length = reader.options.contextLength ?? originalLength;
    const [short, long] = ["short_factor", "long_factor"].map((key) => reader.positives(at + key, dims / 2));
    const magnitude = reader.positive(`${at}attention_factor`, longMagnitude(stretch, originalLength));
    const factors = length > originalLength ? long! : short!;
    return { rope: { ...plain, factors, magnitude }, contextLength: length, maxPositions: length };
  },
}));

/** Other names of kinds of scaling. */
const ROPE_ALIASES = new Map([["none", "default"], ["su", "longrope"]]);

/**
 * The rotary embedding of a config.json.
 *
 * @throws {ModelFormatError} If a value is missing, or its kind is unknown.
 */
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
  const dims = readTurnedDims(reader, headDim, at, turnsPart);
  const typeKey = reader.has(`${at}rope_type`) ? `${at}rope_type` : `${at}type`;
  const type = at !== parameters && ignoresScaling ? "default" : reader.string(typeKey, "default");
  const read = ROPE_READERS.get(ROPE_ALIASES.get(type) ?? type);
  if (read === undefined) {
    throw reader.error(typeKey, `found "${type}", expected one of ${[...ROPE_READERS.keys()].join(", ")}`);
  }
  const original = "original_max_position_embeddings";
  return read({
    reader,
    at,
    plain: { theta, ...(dims < headDim && { dims }) },
    dims,
    trained,
    originalLength: reader.size(reader.oneOf(`${at}${original}`, original), trained),
    required: needsOriginal ? original : undefined,
    scaling: (fallback) => reader.positive(`${at}factor`, fallback),
  });
}

/** Dimensions of a head that turn. @throws {ModelError} If they are not an even part of it, or the model turns all. */
function readTurnedDims(reader: ConfigReader, headDim: number, at: string, turnsPart: boolean): number {
  const partial = reader.oneOf(`${at}partial_rotary_factor`, "partial_rotary_factor");
  const dims = Math.trunc(headDim * reader.positive(partial, 1));
  if (dims % 2 === 0 && dims >= 2 && dims <= headDim && (dims === headDim || turnsPart)) return dims;
  const expected = dims < headDim && dims % 2 === 0 && dims >= 2 ? "all of them" : "an even number";
  throw reader.error(partial, `found ${dims} of the ${headDim} values of a head, expected ${expected}`);
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
