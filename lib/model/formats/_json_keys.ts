/** The keys of a JSON object, nested ones by their path, and getters that check types. */
import { ModelFormatError } from "../../errors.ts";
import type { KeyedFile } from "./_keyed_file.ts";

/** Deepest nesting: published configs have 3 levels. */
const MAX_DEPTH = 8;

/** A config.json: keys of nested objects as "outer.inner"; keys of null count as missing. */
export class JsonKeys implements KeyedFile {
  readonly file: string;
  readonly #values = new Map<string, unknown>();

  /**
   * Takes the text apart.
   *
   * @throws {ModelFormatError} If it is no JSON object, or one that is nested too deeply.
   */
  constructor(file: string, text: string) {
    this.file = file;
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch {
      throw new ModelFormatError(file, "found no JSON text, expected a config");
    }
    if (!isObject(value)) throw new ModelFormatError(file, "found no JSON object, expected a config");
    this.#flatten(value, "", 0);
  }

  has(key: string): boolean {
    return this.#values.has(key);
  }

  entries(): Iterable<[string, unknown]> {
    return this.#values.entries();
  }

  error(key: string, message: string): ModelFormatError {
    return new ModelFormatError(this.file, `"${key}": ${message}`);
  }

  string(key: string, fallback?: string): string {
    return this.#typed(key, (value) => typeof value === "string", "a string", fallback) as string;
  }

  boolean(key: string, fallback?: boolean): boolean {
    return this.#typed(key, (value) => typeof value === "boolean", "true or false", fallback) as boolean;
  }

  integer(key: string, fallback?: number): number {
    return this.#typed(key, Number.isSafeInteger, "an integer", fallback) as number;
  }

  number(key: string, fallback?: number): number {
    return this.#typed(key, Number.isFinite, "a number", fallback) as number;
  }

  strings(key: string): readonly string[] {
    const whether = (value: unknown) => Array.isArray(value) && value.every((x) => typeof x === "string");
    return this.#typed(key, whether, "a list of strings") as readonly string[];
  }

  numbers(key: string): readonly number[] {
    const whether = (value: unknown) => Array.isArray(value) && value.every(Number.isFinite);
    return this.#typed(key, whether, "a list of numbers") as readonly number[];
  }

  #typed(key: string, whether: (value: unknown) => boolean, expected: string, fallback?: unknown): unknown {
    if (!this.has(key)) {
      if (fallback !== undefined) return fallback;
      throw this.error(key, `found no such key, expected ${expected}`);
    }
    const value = this.#values.get(key);
    if (!whether(value)) {
      throw this.error(key, `found ${JSON.stringify(value).slice(0, 60)}, expected ${expected}`);
    }
    return value;
  }

  #flatten(object: Record<string, unknown>, prefix: string, depth: number): void {
    if (depth > MAX_DEPTH) throw this.error(prefix, `found more than ${MAX_DEPTH} levels of objects`);
    for (const [name, value] of Object.entries(object)) {
      if (isObject(value)) this.#flatten(value, `${prefix}${name}.`, depth + 1);
      else if (value !== null) this.#values.set(prefix + name, value);
    }
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
