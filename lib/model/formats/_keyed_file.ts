/** What the two kinds of model files have in common: keys with values, and tensors. */
import type { ModelFormatError } from "../../errors.ts";

/** @internal Keys of a file, by getters that check types: each throws a {@linkcode ModelFormatError} that names the key. */
export interface KeyedFile {
  readonly file: string;
  has(key: string): boolean;
  /** All keys with their values, integers as numbers. */
  entries(): Iterable<[key: string, value: unknown]>;
  error(key: string, message: string): ModelFormatError;
  string(key: string, fallback?: string): string;
  boolean(key: string, fallback?: boolean): boolean;
  /** An integer that a number holds exactly. */
  integer(key: string, fallback?: number): number;
  number(key: string, fallback?: number): number;
  strings(key: string): readonly string[];
  numbers(key: string): readonly number[];
}
