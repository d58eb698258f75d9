/** One option, one row: its type, default and range, its owners, and one line of help. */
import { sayNearest } from "../nearest.ts";

export type Others = { readonly [option: string]: unknown };

interface OptionInfo {
  /** Its effect in one line; `{range}` and `{names}` stand for the row's own. The help adds default and owners. */
  readonly help: string;
  /** Its flag on the command line, if that is not its name. */
  readonly flag?: string;
  /** Placeholder for its value in the help. */
  readonly value?: string;
  /** Addition to the default in the help. */
  readonly note?: string;
  /** It has an effect only where these options have one of these values. */
  readonly of?: { readonly [option: string]: readonly string[] };
  /**
   * It has an effect only under methods that read similarities, that compare scores with a threshold, that work in
   * blocks, or that evict keys and values.
   */
  readonly uses?: "similarity" | "threshold" | "blocks" | "window";
  /** Whether it has an effect besides the other options; default: always. */
  matters?(others: Others): boolean;
}

/** An option: a number, an integer, a flag, one of some names, a set of them, one ratio per layer, layers, or a seed. */
export type Option =
  & OptionInfo
  & (
    | { readonly type: "number"; readonly default?: number; readonly range?: string }
    | { readonly type: "integer"; readonly default: number; readonly range: string }
    | { readonly type: "flag"; readonly default: boolean }
    | { readonly type: "name"; readonly names: readonly string[]; readonly default?: string }
    | { readonly type: "names"; readonly names: readonly string[]; readonly default: readonly string[] }
    | { readonly type: "ratios" }
    | { readonly type: "layers"; readonly default: Layers }
    | { readonly type: "seed"; readonly default: bigint }
  );

/** Layers that no list names. */
export const LAYER_SETS = ["none", "auto", "heads"] as const;

/** Some layers of a model: none, those that the model itself names (or some of their KV heads), or a list of 0-based indices. */
export type Layers = typeof LAYER_SETS[number] | readonly number[];

/** @internal KV heads of a layer, ascending in each part. */
export interface HeadParts {
  /** Those that keep every key and value. */
  readonly whole: readonly number[];
  /** Those that evict, at least one. */
  readonly others: readonly number[];
  /** Whether each of them has rows of its own; default: all have the same ones, and some heads are whole. */
  readonly apart?: boolean;
}

/** How many times each token of a layer is decided: once, or once per KV head that has rows of its own. */
export function unitsOf(parts: HeadParts | undefined): number {
  return parts?.apart ? parts.others.length : 1;
}

export type OptionTable = { readonly [name: string]: Option };

/** The value of an option with its default filled in; of `ratios`, undefined where none are given. */
type ValueOf<O> = O extends { type: "number" | "integer" } ? number
  : O extends { type: "flag" } ? boolean
  : O extends { type: "name"; names: readonly (infer Name)[] } ? Name
  : O extends { type: "names"; names: readonly (infer Name)[] } ? readonly Name[]
  : O extends { type: "ratios" } ? readonly number[] | undefined
  : O extends { type: "layers" } ? Layers
  : O extends { type: "seed" } ? bigint
  : never;

/** @internal Options as a user gives them: each may be left out, and a seed may be a number. */
export type Given<T> = {
  readonly [K in keyof T]?: T[K] extends { type: "seed" } ? number | bigint : ValueOf<T[K]>;
};

export type Resolved<T> = { readonly [K in keyof T]: ValueOf<T[K]> };

/** Options as plain JSON: a seed is a number where that is safe, else a decimal string; ratios not given are null. */
export type Recorded<T> = {
  readonly [K in keyof T]: T[K] extends { type: "seed" } ? number | string
    : T[K] extends { type: "ratios" } ? readonly number[] | null
    : ValueOf<T[K]>;
};

/** Options as the recurrence reads them: a set of names is a number, whose bit i stands for name i. */
export type Packed<T> = {
  readonly [K in keyof T]: T[K] extends { type: "names" } ? number : ValueOf<T[K]>;
};

export function packValue(option: Option, value: unknown): unknown {
  if (option.type !== "names") return value;
  return (value as readonly string[]).reduce((set, name) => set | (1 << option.names.indexOf(name)), 0);
}

/** A value that a user gave, as an error message shows it. */
export function showValue(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(showValue).join(", ")}]`;
  return typeof value === "object" && value !== null ? "an object" : String(value);
}

/** Whether a finite number lies in an interval such as "[0, 1)"; in any where there is none. */
function liesIn(x: number, interval = "[-Infinity, Infinity]"): boolean {
  const [low, high] = boundsOf(interval);
  return Number.isFinite(x) && (interval.startsWith("(") ? x > low : x >= low) &&
    (interval.endsWith(")") ? x < high : x <= high);
}

const boundsOf = (interval: string) => interval.slice(1, -1).split(", ").map(Number) as [number, number];

/** The expected value in words, whether a value has that type, and whether it then lies in range. */
type Check = readonly [
  expected: string,
  hasType: (value: unknown) => boolean,
  inRange: (value: never) => boolean,
];

const isNumber = (value: unknown): boolean => typeof value === "number";
const isText = (value: unknown): boolean => typeof value === "string";
const isListOf = (isItem: (value: unknown) => boolean) => (value: unknown): boolean =>
  Array.isArray(value) && value.every(isItem);
const isSet = (list: readonly unknown[]): boolean => list.length > 0 && new Set(list).size === list.length;

function checkOf(option: Option): Check {
  switch (option.type) {
    case "number": {
      const expected = option.range === undefined ? "a finite number" : `a number in ${option.range}`;
      return [expected, isNumber, (x: number) => liesIn(x, option.range)];
    }
    case "integer": {
      const expected = `an integer from ${boundsOf(option.range).join(" to ")}`;
      return [expected, isNumber, (x: number) => Number.isInteger(x) && liesIn(x, option.range)];
    }
    case "flag":
      return ["true or false", (value) => typeof value === "boolean", () => true];
    case "name":
      return [
        `one of ${option.names.join(", ")}`,
        isText,
        (name: string) => option.names.includes(name),
      ];
    case "names": {
      const expected = `a list of some of ${option.names.join(", ")}, each once`;
      const areKnown = (list: readonly string[]) => list.every((name) => option.names.includes(name));
      return [expected, isListOf(isText), (list: readonly string[]) => isSet(list) && areKnown(list)];
    }
    case "ratios": // planLayers() names the layer of one that is out of range
      return ["a list of numbers in [0, 1], one a layer", isListOf(isNumber), () => true];
    case "layers": {
      const isIndex = (layer: unknown) => Number.isInteger(layer) && (layer as number) >= 0;
      return [
        `${LAYER_SETS.join(", ")} or a list of layers, each once`,
        (value) => isText(value) || isListOf(isNumber)(value),
        (value: Layers) =>
          typeof value === "string" ? LAYER_SETS.includes(value) : value.every(isIndex) && isSet(value),
      ];
    }
    case "seed": {
      const fits = (x: number | bigint) => typeof x === "bigint" ? x < 1n << 64n : Number.isSafeInteger(x);
      const hasType = (value: unknown) => isNumber(value) || typeof value === "bigint";
      return ["an integer in [0, 2^64)", hasType, (x: number | bigint) => x >= 0 && fits(x)];
    }
  }
}

/** The error for an option's value that cannot be used. */
export function wrongOption(name: string, found: string, expected: string): RangeError {
  return new RangeError(`Cannot use option "${name}": found ${found}, expected ${expected}`);
}

/** Checks a value. @throws {TypeError | RangeError} If it is of the wrong type, or out of range. */
export function checkOption(name: string, option: Option, value: unknown): void {
  const [expected, hasType, inRange] = checkOf(option);
  if (!hasType(value)) throw new TypeError(wrongOption(name, showValue(value), expected).message);
  if (inRange(value as never)) return;
  const isLong = option.type === "name" && option.names.length > 5;
  const hint = isLong ? sayNearest(value as string, option.names, ": ") : "";
  throw wrongOption(name, showValue(value), expected + hint);
}

export type Narrower = { readonly names: readonly string[] } | { readonly range: string };

/** Checks a value against a narrower choice than the option's. @throws {RangeError} If it is not among them. */
export function checkNarrower(
  name: string,
  option: Option,
  narrower: Narrower,
  value: unknown,
  why: string,
): void {
  const [expected, , inRange] = checkOf({ ...option, ...narrower } as Option);
  if (inRange(value as never)) return;
  const choices = "names" in narrower ? narrower.names.join(" or ") : expected;
  throw wrongOption(name, showValue(value), `${choices} ${why}`);
}
