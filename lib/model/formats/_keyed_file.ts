/** What the two kinds of model files have in common: keys with values, and tensors. */
import type { ModelFormatError } from "../../errors.ts";

/** @internal Keys of a file, by getters that check types: each throws a {@linkcode ModelFormatError} that names the key. */
export interface KeyedFile {
  /** The file's path or URL. */
  readonly file: string;
  /** Whether the file has the key. */
  has(key: string): boolean;
  /** All keys with their values, integers as numbers. */
  entries(): Iterable<[key: string, value: unknown]>;
  /** An error that names a key. */
  error(key: string, message: string): ModelFormatError;
  /** A string. */
  string(key: string, fallback?: string): string;
  /** A truth value. */
  boolean(key: string, fallback?: boolean): boolean;
  /** An integer that a number holds exactly. */
  integer(key: string, fallback?: number): number;
  /** A finite number. */
  number(key: string, fallback?: number): number;
  /** A list of strings. */
  strings(key: string): readonly string[];
  /** A list of numbers. */
  numbers(key: string): readonly number[];
}
