/** A model's sizes: the keys that files use, and what this project calls them. */
import type { CostShape } from "../cost.ts";
import type { ModelFormatError } from "../errors.ts";
import { ARCHITECTURES, findArchitecture } from "./architectures/mod.ts";
import type { GgufFile } from "./formats/gguf.ts";
import type { Rope } from "./rope.ts";

/** Sizes and constants of a model. `numKvHeads` divides `numHeads`, and `headDim` is even. */
export interface ModelConfig extends CostShape {
  /** Name of its architecture, as GGUF files have it. */
  readonly architecture: string;
  /** Rotary embedding of the layers that do not say otherwise. */
  readonly rope: Rope;
  /** Added to the mean square in RMSNorm. */
  readonly rmsNormEps: number;
  /** Positions that the model was trained on. */
  readonly contextLength: number;
  /** Whether the output projection is the embedding. */
  readonly tieWordEmbeddings: boolean;
}

/** Value of a key that is no list. */
export type KeyValue = string | number | boolean;

/** Keys outside an architecture's prefix that change what a model computes; see `Architecture.neutralKeys`. */
const NEUTRAL_KEYS: { readonly [key: string]: KeyValue } = { "general.type": "model", "split.count": 1 };

/** Memory that one layer's shapes could ask for stays countable: the largest models have 2^14 or 2^18 of each. */
const MAX_SIZE = 2 ** 24;

/** The keys of a file that begin with its architecture's name, given here without it. */
export class ConfigReader {
  /** The file. */
  readonly gguf: GgufFile;
  /** The architecture's name. */
  readonly architecture: string;
  /** Keys that were asked for, in full. */
  readonly asked: Set<string> = new Set();

  /** Reads keys of a file. */
  constructor(gguf: GgufFile, architecture: string) {
    this.gguf = gguf;
    this.architecture = architecture;
  }

  /** Whether the file has a key. */
  has(key: string): boolean {
    return this.gguf.has(this.#full(key));
  }

  /** An integer from 1 to 2^24. @throws {ModelFormatError} If it is another value, or missing without a fallback. */
  size(key: string, fallback?: number): number {
    const value = this.gguf.integer(this.#full(key), fallback);
    if (value < 1 || value > MAX_SIZE) throw this.error(key, `found ${value}, expected 1 to ${MAX_SIZE}`);
    return value;
  }

  /** A positive number. @throws {ModelFormatError} If it is another value, or missing without a fallback. */
  positive(key: string, fallback?: number): number {
    const value = this.gguf.number(this.#full(key), fallback);
    if (value <= 0) throw this.error(key, `found ${value}, expected a positive number`);
    return value;
  }

  /** An error about a key, which names it in full. */
  error(key: string, says: string): ModelFormatError {
    return this.gguf.error(this.#full(key), says);
  }

  #full(key: string): string {
    const full = `${this.architecture}.${key}`;
    this.asked.add(full);
    return full;
  }
}

/**
 * Reads a model's sizes from a GGUF file's metadata.
 *
 * Whatever could change the model's results and is not known here is an error: every key that begins with the name of
 * the architecture must be one that its entry in `architectures/` reads or lists. (Keys under other prefixes,
 * `tokenizer.` aside, are notes about the file.)
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
export function readModelConfig(gguf: GgufFile): ModelConfig {
  const name = gguf.string("general.architecture"), architecture = findArchitecture(name);
  if (architecture === undefined) {
    const names = ARCHITECTURES.map(({ name }) => `"${name}"`).join(" or ");
    throw gguf.error("general.architecture", `found "${name}", expected ${names}, which runs here`);
  }
  const reader = new ConfigReader(gguf, name);
  const config = architecture.readConfig(reader);
  const { neutralKeys, informativeKeys } = architecture;
  const withPrefix = (key: string) => `${name}.${key}`;
  const own = Object.entries(neutralKeys).map(([key, value]) => [withPrefix(key), value] as const);
  const neutral = new Map([...Object.entries(NEUTRAL_KEYS), ...own]);
  const known = new Set([...reader.asked, ...informativeKeys.map(withPrefix)]);
  for (const [key, { value }] of gguf.metadata) {
    const found = typeof value === "bigint" ? Number(value) : value, want = neutral.get(key);
    if (want !== undefined && found !== want) {
      throw gguf.error(
        key,
        `found ${JSON.stringify(found)}, expected ${JSON.stringify(want)} or no such key`,
      );
    }
    if (want === undefined && key.startsWith(withPrefix("")) && !known.has(key)) {
      throw gguf.error(key, "found a key that this project does not know, so its results could be wrong");
    }
  }
  return config;
}
