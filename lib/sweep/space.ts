/** Grids of options, from `--grid FILE.json` and comma lists of flags. */
import { OPTION_NAMES, OPTIONS } from "../methods/bind/option_table.ts";
import { effectiveKey, type ResolvedOptions, resolveOptions } from "../methods/bind/options.ts";
import { sayNearest } from "../nearest.ts";

/** One grid: each option has one value or a list of alternatives. */
export type Grid = { readonly [name: string]: unknown };

/** More trials than this are a mistake in a grid rather than a wish: a week at a minute each. */
export const MAX_TRIALS = 10_000;

/** `prune-ratio` and `prune_ratio` as `pruneRatio`; a flag that has a name of its own as its option. */
export function toOptionName(name: string): string {
  const [byFlag] = Object.entries(OPTIONS).find(([, { flag }]) => flag === name) ?? [];
  return byFlag ?? name.replaceAll(/[-_]([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

/**
 * Reads the name of an option, in any spelling of {@linkcode toOptionName}.
 *
 * @param what The purpose of the name, in errors.
 * @throws {TypeError} If it is no option.
 */
export function readOptionName(name: string, what: string): string {
  const option = toOptionName(name);
  if (OPTION_NAMES.includes(option)) return option;
  throw new TypeError(`Cannot use ${what} "${name}": no such option${sayNearest(name, OPTION_NAMES)}`);
}

/**
 * Alternatives of one axis; of an option whose single value is a list already, a list of lists.
 *
 * @throws {RangeError} If a list is empty.
 */
export function listAlternatives(name: string, value: unknown): readonly unknown[] {
  const { type } = OPTIONS[name]!;
  if (type !== "names" && type !== "ratios" && type !== "layers") {
    if (!Array.isArray(value)) return [value];
    if (value.length === 0) {
      throw new RangeError(
        `Cannot use grid axis "${name}": found an empty list, expected at least one value`,
      );
    }
    return value;
  }
  const one = (item: unknown) => type === "names" && typeof item === "string" ? item.split("+") : item;
  if (!Array.isArray(value)) return [one(value)];
  const many = type === "names"
    ? value.some((item) => Array.isArray(item) || /\+/.test(item))
    : value.some((item) => Array.isArray(item) || typeof item === "string");
  return many ? value.map(one) : [value];
}

/**
 * Reads a grid: an object of axes, or a list of such objects (their trials one after the other). Keys are option
 * names, `pruneRatio` or `prune-ratio`.
 *
 * @throws {TypeError} If it is neither, a key is no option, or one is there twice.
 */
export function readGrids(value: unknown): Grid[] {
  const list = Array.isArray(value) ? value : [value];
  if (list.length === 0) {
    throw new TypeError("Cannot use a grid: found an empty list, expected an object of axes");
  }
  return list.map((grid: unknown) => {
    if (typeof grid !== "object" || grid === null || Array.isArray(grid)) {
      throw new TypeError(`Cannot use a grid: found ${JSON.stringify(grid)}, expected an object of axes`);
    }
    const axes = new Map<string, unknown>();
    for (const [name, alternatives] of Object.entries(grid)) {
      const option = readOptionName(name, "grid axis");
      if (axes.has(option)) {
        throw new TypeError(`Cannot use grid axis "${name}": found "${option}" twice, expected it once`);
      }
      axes.set(option, alternatives);
    }
    return Object.fromEntries(axes);
  });
}

/**
 * Expands grids to trials: the cartesian product of each, in order, the last axis fastest. Some trials differ only in
 * options without effect under their rule and policy; of these only the first one stays.
 *
 * @throws {TypeError} If an option is unknown or of the wrong type.
 * @throws {RangeError} If a value is out of range, a combination is not defined, or there are over 10,000 trials.
 */
export function expandGrids(grids: readonly Grid[]): ResolvedOptions[] {
  const trials = new Map<string, ResolvedOptions>();
  for (const grid of grids) {
    const axes = Object.entries(grid).map(([name, value]) => [name, listAlternatives(name, value)] as const);
    const size = axes.reduce((product, [, values]) => product * values.length, 1);
    if (size > MAX_TRIALS) {
      throw new RangeError(`Cannot run a grid of ${size} trials: expected at most ${MAX_TRIALS}`);
    }
    const points = axes.reduce<Grid[]>(
      (all, [name, values]) => all.flatMap((point) => values.map((value) => ({ [name]: value, ...point }))),
      [{}],
    );
    for (const options of points) {
      const method = resolveOptions(options), key = effectiveKey(method);
      if (!trials.has(key)) trials.set(key, method);
    }
  }
  return [...trials.values()];
}
