/** A model's sizes: the keys that files use, and what this project calls them. */
import type { CostShape } from "../cost.ts";
import type { Architecture } from "./architectures/architecture.ts";
import { ARCHITECTURES } from "./architectures/mod.ts";
import { ConfigReader, type KeyValue } from "./config_reader.ts";
import { GgufFile } from "./formats/gguf.ts";
import type { HfFolder } from "./formats/hf_folder.ts";
import type { Rope } from "./rope.ts";

/** @internal What sets a layer apart from what the model says for all. */
export interface LayerConfig {
  /** Its rotary embedding; null where it has none. Default: the model's. */
  readonly rope?: Rope | null;
  /** Its attention reaches back over so many positions, a token's own included. Default: over all. */
  readonly window?: number;
  /** Query heads, KV heads and channels of its MLP, where a method has left some out. Default: the model's. */
  readonly numHeads?: number;
  readonly numKvHeads?: number;
  readonly intermediateSize?: number;
}

/** Sizes and constants of a model. `numKvHeads` divides `numHeads`, and `headDim` is even. */
export interface ModelConfig extends CostShape {
  /** Name of its architecture, as {@linkcode ARCHITECTURES} has it. */
  readonly architecture: string;
  /** Rotary embedding of the layers that do not say otherwise. */
  readonly rope: Rope;
  /** Added to the mean square in RMSNorm. */
  readonly rmsNormEps: number;
  /** Positions that the model was trained on, or that its rotary embedding was stretched for. */
  readonly contextLength: number;
  /** Whether the output projection is the embedding. */
  readonly tieWordEmbeddings: boolean;
  /** What sets layers apart, one entry a layer. Default: nothing. */
  readonly layers?: readonly LayerConfig[];
  /** Projections with a bias, such as "q" or "down". Default: none. */
  readonly biases?: readonly string[];
  /** Factor on the products of queries and keys. Default: 1 / sqrt(headDim). */
  readonly attentionScale?: number;
  /** Positions from this one on are refused, where the rotary embedding is not right for them. Default: none. */
  readonly maxPositions?: number;
}

/** @internal A file or folder that holds a model. */
export type ModelSource = GgufFile | HfFolder;

/** @internal Options of {@linkcode readModelConfig}. */
export interface ConfigOptions {
  /**
   * Positions that the rotary embedding is to be made for, where its kind depends on that ("dynamic", "longrope").
   * Default: those that the model was first trained on, at which neither stretches anything.
   */
  readonly contextLength?: number;
}

/** Keys of a GGUF file outside an architecture's prefix that change what a model computes; see `neutralKeys`. */
const GGUF_NEUTRAL: { readonly [key: string]: KeyValue } = { "general.type": "model", "split.count": 1 };

/**
 * Reads a model's sizes from a GGUF file's metadata or the config.json of a Hugging Face folder.
 *
 * Whatever could change the model's results and is not known here is an error: every key of a config.json, and of a GGUF
 * file every one that begins with the name of the architecture, must be one that its entry in `architectures/` reads or
 * lists. (Keys of a GGUF file under other prefixes, `tokenizer.` aside, are notes about the file.)
 *
 * @throws {ModelFormatError} If the architecture does not run here, a key is missing, of a wrong type, out of range or
 * not known; the message names the key.
 *
 * @example
 * ```ts
 * import { parseGguf, readModelConfig, resolveModel } from "@tokenfilter/tokenfilter/model";
 * const { bytes, path } = await resolveModel("tiny");
 * console.assert(readModelConfig(parseGguf(bytes, path)).numLayers === 10);
 * ```
 */
export function readModelConfig(source: ModelSource, options: ConfigOptions = {}): ModelConfig {
  const isGguf = source instanceof GgufFile, file = isGguf ? source : source.config;
  const architecture = isGguf ? findGguf(source) : findHf(source);
  const form = isGguf ? architecture.gguf! : architecture.hf,
    prefix = isGguf ? `${architecture.gguf!.name}.` : "";
  const reader = new ConfigReader(source, architecture.name, prefix, options);
  const config = architecture.readConfig(reader);
  const own = Object.entries(form.neutralKeys).map(([key, value]) => [prefix + key, value] as const);
  const neutral = new Map([...(isGguf ? Object.entries(GGUF_NEUTRAL) : []), ...own]);
  const known = new Set([...reader.asked, ...form.informativeKeys.map((key) => prefix + key)]);
  for (const [key, found] of file.entries()) {
    const want = neutral.get(key);
    if (known.has(key)) continue;
    if (want !== undefined && found !== want) {
      throw file.error(
        key,
        `found ${JSON.stringify(found)}, expected ${JSON.stringify(want)} or no such key`,
      );
    }
    if (want === undefined && key.startsWith(prefix)) {
      throw file.error(key, "found a key that this project does not know, so its results could be wrong");
    }
  }
  return config;
}

/** Checks that a sequence may grow to so many tokens. @throws {RangeError} If its last position is one too far. */
export function expectPositions({ maxPositions = Infinity }: ModelConfig, tokens: number): void {
  if (tokens > maxPositions) {
    throw new RangeError(
      `Cannot feed a sequence of ${tokens} tokens: the model's rotary embedding was made for ${maxPositions}; ` +
        "load it with a longer contextLength",
    );
  }
}

export function layerConfig({ layers }: Pick<ModelConfig, "layers">, layer: number): LayerConfig {
  return layers?.[layer] ?? {};
}

function findGguf(file: GgufFile): Architecture {
  const name = file.string("general.architecture");
  const found = ARCHITECTURES.find(({ gguf }) => gguf?.name === name);
  if (found !== undefined) return found;
  const names = ARCHITECTURES.flatMap(({ gguf }) => gguf === undefined ? [] : [`"${gguf.name}"`]).join(", ");
  throw file.error("general.architecture", `found "${name}", expected one that runs here: ${names}`);
}

function findHf({ config }: HfFolder): Architecture {
  const names = config.strings("architectures");
  const found = ARCHITECTURES.find(({ hf }) => names.includes(hf.name));
  if (found !== undefined) return found;
  const known = ARCHITECTURES.map(({ hf }) => `"${hf.name}"`).join(", ");
  throw config.error("architectures", `found "${names}", expected one that runs here: ${known}`);
}
