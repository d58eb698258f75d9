/** Short values of outputs: enough to detect a difference, and its size. */
import { createHash } from "node:crypto";

/** A value of a digest; names of parts to parts. */
export type Facet = string | number | boolean | null | readonly Facet[] | { readonly [part: string]: Facet };

/** Longest list, words and text that are kept in full, in characters of JSON; most rows of a table. */
const MAX_LIST = 64, MAX_WORDS = 300, MAX_TEXT = 6000, MAX_ROWS = 16;

/** A short hash of a value's text. A digest contains no other `#`. */
export function hash(text: string): string {
  return `#${createHash("sha256").update(text).digest("hex").slice(0, 8)}`;
}

/** A text by its lines; one of more than `longest` characters by their number, a hash and the first one. */
export function summarizeText(text: string, longest = MAX_TEXT): Facet {
  const lines = text.replace(/\n$/, "").split("\n");
  if (text.length <= longest) return lines;
  return `${lines.length} lines ${hash(text)}: ${lines[0]!.slice(0, 80)}`;
}

/** A JSON document: the values below each path, in their order. A list's elements share a path. */
export function summarizeJson(document: unknown): { readonly [path: string]: Facet } {
  const leaves = new Map<string, unknown[]>();
  const add = (path: string, value: unknown) => {
    if (!leaves.has(path)) leaves.set(path, []);
    leaves.get(path)!.push(value);
  };
  const collect = (value: unknown, path: string): void => {
    if (typeof value !== "object" || value === null) add(path, value);
    else if (Array.isArray(value)) {
      if (value.length === 0) add(path, "[]");
      for (const item of value) {
        if (Array.isArray(item) && !item.some((x) => typeof x === "object" && x !== null)) {
          add(`${path}[][]`, item);
        } else collect(item, `${path}[]`);
      }
    } else {
      if (Object.keys(value).length === 0) add(path, "{}");
      for (const [key, item] of Object.entries(value)) collect(item, path === "" ? key : `${path}.${key}`);
    }
  };
  collect(document, "");
  return Object.fromEntries([...leaves].map(([path, values]) => [path, summarizeLeaves(path, values)]));
}

/** Values of a path; lists among them are rows of a table. */
function summarizeLeaves(path: string, values: readonly unknown[]): Facet {
  if (values.length <= MAX_ROWS && values.every(Array.isArray)) return values.map(summarizeList);
  if (values.length === 1 && !path.includes("[")) return summarizeScalar(values[0]);
  return summarizeList(values.flat());
}

function summarizeScalar(value: unknown): Facet {
  if (typeof value !== "string" || value.length <= MAX_WORDS) return value as Facet;
  return `${value.length} characters ${hash(value)}: ${value.slice(0, 80)}`;
}

function summarizeList(values: readonly unknown[]): Facet {
  const text = JSON.stringify(values);
  if (text.length <= MAX_LIST) return values as Facet;
  if (values.every((x) => x === 0 || x === 1 || typeof x === "boolean")) {
    return summarizeBits(values.map(Boolean));
  }
  if (values.every((x) => x === null || typeof x === "number")) {
    return summarizeNumbers(values as (number | null)[]);
  }
  if (text.length <= MAX_WORDS) return values as Facet;
  return `${values.length} values ${hash(text)}: ${text.slice(0, 80)}`;
}

/** The count of set bits, the count of bits, and all of them as hexadecimal digits, the first one highest. */
function summarizeBits(values: readonly boolean[]): string {
  let digits = "";
  for (let i = 0; i < values.length; i += 4) {
    let digit = 0;
    for (let j = 0; j < 4; j++) digit = 2 * digit + (values[i + j] ? 1 : 0);
    digits += digit.toString(16);
  }
  if (digits.length > MAX_WORDS) digits = hash(digits);
  return `${values.filter(Boolean).length}/${values.length} ${digits}`;
}

/**
 * Numbers by their count, their mean, their mean weighted by position (it depends on their order) and a hash of all
 * digits. NaN and null count as gaps.
 */
function summarizeNumbers(values: readonly (number | null)[]): string {
  const found = values.filter((x) => x !== null && !Number.isNaN(x)) as number[];
  let sum = 0, weighted = 0;
  found.forEach((x, i) => {
    sum += x;
    weighted += x * (i + 1) / found.length;
  });
  const [mean, byPosition] = [sum, weighted].map((x) => (x / found.length).toPrecision(7));
  const gaps = values.length - found.length;
  return `${values.length}${gaps > 0 ? ` with ${gaps} gaps` : ""}, mean ${mean} ${byPosition} ${
    hash(values.join())
  }`;
}
