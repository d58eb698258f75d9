/** Reads a config's keys for an architecture, whichever of the two formats a file has. */
import type { ModelFormatError } from "../../errors.ts";
import { JsonKeys, KeyedFile, type KeyType } from "../formats/_keyed_file.ts";
import { GgufFile } from "../formats/gguf.ts";
import type { HfFolder } from "../formats/hf_folder.ts";

/** @internal A file or folder that holds a model. */
export type ModelSource = GgufFile | HfFolder;

/** @internal Options of `readModelConfig`. */
export interface ConfigOptions {
  /**
   * Positions that the rotary embedding is to be made for, where its kind depends on that ("dynamic", "longrope").
   * Default: those that the model was first trained on, at which neither stretches anything.
   */
  readonly contextLength?: number;
}

export type KeyValue = string | number | boolean;

/** A key by its name in each format, without a GGUF file's prefix; or one name for both. */
export type Key = string | { readonly gguf: string; readonly hf: string };

/** Memory that one layer's shapes could ask for stays countable: the largest models have 2^14 or 2^18 of each. */
const MAX_SIZE = 2 ** 24;

/** The keys of a file, those of a GGUF file without the architecture's name in front. */
export class ConfigReader extends KeyedFile<Key> {
  readonly isGguf: boolean;
  /** Keys that were asked for, in full. */
  readonly asked: Set<string> = new Set();
  readonly #file: KeyedFile;
  readonly #prefix: string;
  readonly source: ModelSource;
  readonly architecture: string;
  readonly options: ConfigOptions;

  /** @param prefix Prefix of the keys, with its dot; empty where there is none. */
  constructor(source: ModelSource, architecture: string, prefix: string, options: ConfigOptions) {
    super();
    this.source = source;
    this.architecture = architecture;
    this.options = options;
    this.isGguf = source instanceof GgufFile;
    this.#file = source instanceof GgufFile ? source : source.config;
    this.#prefix = prefix;
  }

  has(key: Key): boolean {
    return this.#file.has(this.#full(key));
  }

  /** Whether a config.json has a key with the value null, which counts as missing. */
  isNull(key: Key): boolean {
    return this.#file instanceof JsonKeys && this.#file.isNull(this.#full(key));
  }

  /**
   * Which of several keys for the same thing is there; the last where none is.
   *
   * @throws {ModelFormatError} If two of them are there with different values: readers differ in which one they take.
   */
  oneOf(...keys: readonly string[]): string {
    const [first = keys.at(-1)!, ...others] = keys.filter((key) => this.has(key));
    const other = others.find((key) => this.number(key) !== this.number(first));
    if (other === undefined) return first;
    const found = `found ${this.number(other)}, expected the ${this.number(first)} of "${first}"`;
    throw this.error(other, found);
  }

  /** An integer from 1 to 2^24. @throws {ModelFormatError} If it is another value, or missing without a fallback. */
  size(key: Key, fallback?: number): number {
    const value = this.integer(key, fallback);
    if (value < 1 || value > MAX_SIZE) throw this.error(key, `found ${value}, expected 1 to ${MAX_SIZE}`);
    return value;
  }

  /** A positive number. @throws {ModelFormatError} If it is another value, or missing without a fallback. */
  positive(key: Key, fallback?: number): number {
    const value = this.number(key, fallback);
    if (value <= 0) throw this.error(key, `found ${value}, expected a positive number`);
    return value;
  }

  /** A list of positive numbers of a length. @throws {ModelFormatError} If it is something else. */
  positives(key: Key, length: number): readonly number[] {
    const values = this.numbers(key);
    if (values.length !== length || !values.every((value) => value > 0)) {
      throw this.error(key, `found ${values.length} numbers, expected ${length}, all positive`);
    }
    return values;
  }

  typed(key: Key, type: KeyType): unknown {
    return this.#file.typed(this.#full(key), type);
  }

  error(key: Key, says: string): ModelFormatError {
    return this.#file.error(this.#full(key), says);
  }

  #full(key: Key): string {
    const name = typeof key === "string" ? key : this.isGguf ? key.gguf : key.hf;
    const full = this.#prefix + name;
    this.asked.add(full);
    return full;
  }
}
