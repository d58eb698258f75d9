/** What a parsed GGUF file offers: metadata and tensors, and getters that check types. */
import { ModelFormatError } from "../../errors.ts";
import type { FileTensor } from "./_file_tensor.ts";
import type { KeyedFile } from "./_keyed_file.ts";

/** Types of metadata values; the index is the format's number. */
export const VALUE_TYPES: readonly GgufValueType[] = [
  "uint8",
  "int8",
  "uint16",
  "int16",
  "uint32",
  "int32",
  "float32",
  "bool",
  "string",
  "array",
  "uint64",
  "int64",
  "float64",
];

/** Type of a metadata value, as the format names it (in lower case). */
export type GgufValueType =
  | "uint8"
  | "int8"
  | "uint16"
  | "int16"
  | "uint32"
  | "int32"
  | "float32"
  | "bool"
  | "string"
  | "array"
  | "uint64"
  | "int64"
  | "float64";

/** A number, truth value or string; 64-bit integers are bigints. */
export type GgufScalar = number | bigint | boolean | string;

/** @internal One metadata value with its type in the file. */
export interface GgufValue {
  readonly type: GgufValueType;
  /** Type of the elements, where `type` is "array". */
  readonly elementType?: GgufValueType;
  /** The value; arrays hold scalars of one type and are never nested. */
  readonly value: GgufScalar | readonly GgufScalar[];
  /** Byte offset of the value in the file. */
  readonly offset: number;
}

const INTEGER_TYPES: readonly GgufValueType[] = [
  "uint8",
  "int8",
  "uint16",
  "int16",
  "uint32",
  "int32",
  "uint64",
  "int64",
];

/** @internal A parsed file: metadata and tensors. The getters throw a {@linkcode ModelFormatError} that names the key. */
export class GgufFile implements KeyedFile {
  readonly file: string;
  readonly version: number;
  /** Metadata by key, in the file's order. */
  readonly metadata: ReadonlyMap<string, GgufValue>;
  /**
   * Tensors by name, in the file's order: shapes row-major ([n, k], GGUF's own dimensions reversed), data as views
   * of the file's bytes where these are in memory, else read at each look.
   */
  readonly tensors: ReadonlyMap<string, FileTensor>;

  constructor(
    file: string,
    version: number,
    metadata: ReadonlyMap<string, GgufValue>,
    tensors: ReadonlyMap<string, FileTensor>,
  ) {
    this.file = file;
    this.version = version;
    this.metadata = metadata;
    this.tensors = tensors;
  }

  has(key: string): boolean {
    return this.metadata.has(key);
  }

  /** All keys with their values, 64-bit integers as numbers. */
  *entries(): Generator<[key: string, value: unknown]> {
    for (const [key, { value }] of this.metadata) {
      yield [key, typeof value === "bigint" ? Number(value) : value];
    }
  }

  /** An error that names a key, and points at its value where there is one. */
  error(key: string, message: string): ModelFormatError {
    return new ModelFormatError(this.file, `"${key}": ${message}`, this.metadata.get(key)?.offset);
  }

  string(key: string, fallback?: string): string {
    return this.#scalar(key, ["string"], "a string", fallback) as string;
  }

  boolean(key: string, fallback?: boolean): boolean {
    return this.#scalar(key, ["bool"], "true or false", fallback) as boolean;
  }

  /** An integer of any width, as a number. */
  integer(key: string, fallback?: number): number {
    const number = Number(this.#scalar(key, INTEGER_TYPES, "an integer", fallback));
    if (!Number.isSafeInteger(number)) throw this.error(key, `found ${number}, expected at most 2^53 - 1`);
    return number;
  }

  /** A finite number: a float, or an integer. */
  number(key: string, fallback?: number): number {
    const types: GgufValueType[] = ["float32", "float64", ...INTEGER_TYPES];
    const number = Number(this.#scalar(key, types, "a number", fallback));
    if (!Number.isFinite(number)) throw this.error(key, `found ${number}, expected a finite number`);
    return number;
  }

  strings(key: string): readonly string[] {
    return this.#list(key, ["string"], "a list of strings") as readonly string[];
  }

  /** A list of numbers, floats or integers of at most 32 bits. */
  numbers(key: string): readonly number[] {
    const types: GgufValueType[] = [
      "float32",
      "float64",
      "int8",
      "uint8",
      "int16",
      "uint16",
      "int32",
      "uint32",
    ];
    return this.#list(key, types, "a list of numbers") as readonly number[];
  }

  #scalar(
    key: string,
    types: readonly GgufValueType[],
    expected: string,
    fallback: GgufScalar | undefined,
  ): GgufScalar {
    const entry = this.metadata.get(key);
    if (entry === undefined && fallback !== undefined) return fallback;
    return this.#typed(entry, key, entry?.type, types, expected) as GgufScalar;
  }

  #list(key: string, types: readonly GgufValueType[], expected: string): readonly GgufScalar[] {
    const entry = this.metadata.get(key);
    return this.#typed(entry, key, entry?.elementType, types, expected) as readonly GgufScalar[];
  }

  #typed(
    entry: GgufValue | undefined,
    key: string,
    type: GgufValueType | undefined,
    types: readonly GgufValueType[],
    expected: string,
  ): GgufValue["value"] {
    if (entry === undefined) throw this.error(key, `found no such key, expected ${expected}`);
    if (type === undefined || !types.includes(type)) {
      const found = entry.elementType === undefined ? entry.type : `a list of ${entry.elementType}`;
      throw this.error(key, `found ${found}, expected ${expected}`);
    }
    return entry.value;
  }
}
