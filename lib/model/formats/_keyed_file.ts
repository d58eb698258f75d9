/** Keys of a file with their values, by getters that check types. */
import { ModelFormatError } from "../../errors.ts";

/** Types that a key's value can be required to have, as messages name them. */
export type KeyType =
  | "a string"
  | "true or false"
  | "an integer"
  | "a number"
  | "a list of strings"
  | "a list of numbers";

/** @internal Keys of a file. Each getter throws a {@linkcode ModelFormatError} that names the key. */
export abstract class KeyedFile<Key = string> {
  abstract has(key: Key): boolean;
  abstract error(key: Key, message: string): ModelFormatError;
  /** The value of a key that is there. @throws {ModelFormatError} If it is of another type. */
  abstract typed(key: Key, type: KeyType): unknown;

  string(key: Key, fallback?: string): string {
    return this.#get(key, "a string", fallback) as string;
  }

  boolean(key: Key, fallback?: boolean): boolean {
    return this.#get(key, "true or false", fallback) as boolean;
  }

  /** An integer that a number holds exactly. */
  integer(key: Key, fallback?: number): number {
    return this.#get(key, "an integer", fallback) as number;
  }

  number(key: Key, fallback?: number): number {
    return this.#get(key, "a number", fallback) as number;
  }

  strings(key: Key): readonly string[] {
    return this.#get(key, "a list of strings") as readonly string[];
  }

  /** A list of numbers; of a GGUF file no 64-bit integers. */
  numbers(key: Key): readonly number[] {
    return this.#get(key, "a list of numbers") as readonly number[];
  }

  #get(key: Key, type: KeyType, fallback?: unknown): unknown {
    if (this.has(key)) return this.typed(key, type);
    if (fallback !== undefined) return fallback;
    throw this.error(key, `found no such key, expected ${type}`);
  }
}

type JsonObject = Record<string, unknown>;

export function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Parses the text of a JSON object. @throws {ModelFormatError} If it is none; the message names the expected file. */
export function parseObject(file: string, text: string, expected: string): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new ModelFormatError(file, `found no JSON text, expected ${expected}`);
  }
  if (!isObject(value)) throw new ModelFormatError(file, `found no JSON object, expected ${expected}`);
  return value;
}

/** Deepest nesting: published configs have 3 levels. */
const MAX_DEPTH = 8;

const CHECKS: { readonly [T in KeyType]: (value: unknown) => boolean } = {
  "a string": (value) => typeof value === "string",
  "true or false": (value) => typeof value === "boolean",
  "an integer": Number.isSafeInteger,
  "a number": Number.isFinite,
  "a list of strings": (value) => Array.isArray(value) && value.every((x) => typeof x === "string"),
  "a list of numbers": (value) => Array.isArray(value) && value.every(Number.isFinite),
};

/** A config.json: keys of nested objects as "outer.inner"; keys of null count as missing. */
export class JsonKeys extends KeyedFile {
  readonly #file: string;
  readonly #values = new Map<string, unknown>();
  readonly #nulls = new Set<string>();

  /** @throws {ModelFormatError} If the text is no JSON object, or one that is nested too deeply. */
  constructor(file: string, text: string) {
    super();
    this.#file = file;
    this.#flatten(parseObject(file, text, "a config"), "", 0);
  }

  has(key: string): boolean {
    return this.#values.has(key);
  }

  isNull(key: string): boolean {
    return this.#nulls.has(key);
  }

  entries(): Iterable<[key: string, value: unknown]> {
    return this.#values.entries();
  }

  error(key: string, message: string): ModelFormatError {
    return new ModelFormatError(this.#file, `"${key}": ${message}`);
  }

  typed(key: string, type: KeyType): unknown {
    const value = this.#values.get(key);
    if (CHECKS[type](value)) return value;
    throw this.error(key, `found ${JSON.stringify(value).slice(0, 60)}, expected ${type}`);
  }

  #flatten(object: JsonObject, prefix: string, depth: number): void {
    if (depth > MAX_DEPTH) throw this.error(prefix, `found more than ${MAX_DEPTH} levels of objects`);
    for (const [name, value] of Object.entries(object)) {
      if (isObject(value)) this.#flatten(value, `${prefix}${name}.`, depth + 1);
      else if (value === null) this.#nulls.add(prefix + name);
      else this.#values.set(prefix + name, value);
    }
  }
}
