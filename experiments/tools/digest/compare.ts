/** Differences between two digests. */
import type { Facet } from "./summarize.ts";

/** Version of the file's format: digests of others are not compared. */
export const FORMAT = 2;

/** A digest of behaviour: the content of its file. */
export interface Digest {
  readonly format: typeof FORMAT;
  /** Platform and instruction-set level of the native code: digests of others are not compared. */
  readonly level: string;
  /** Requirements of some runs that a machine may lack. */
  readonly has: readonly string[];
  /** Tools that computed: others may round differently. */
  readonly madeWith: { readonly [tool: string]: string };
  /** Facets of every run, by its name. */
  readonly runs: { readonly [name: string]: { readonly [facet: string]: Facet } };
}

/** One difference. */
export interface Difference {
  readonly run: string;
  readonly facet: string;
  /** The first part of the facet that differs; "" = the facet itself. */
  readonly path: string;
  readonly before: string;
  readonly after: string;
}

/** Relative and absolute difference of two numbers that counts as rounding. */
const ROUNDING = { relative: 1e-3, absolute: 1e-6 };

/** The result of a comparison. */
export interface Comparison {
  readonly differences: readonly Difference[];
  /** Runs that both digests could hold. */
  readonly compared: number;
  /** Requirements of some runs of one digest that the other one's machine lacks. */
  readonly lacking: readonly string[];
  /** Tools that differ: numbers were compared to rounding. */
  readonly otherTools: readonly string[];
}

/** Names of the tools that differ. */
export function differingTools(before: Digest["madeWith"], after: Digest["madeWith"]): string[] {
  return Object.keys(after).filter((tool) => before[tool] !== after[tool]);
}

/**
 * Compares two digests of the same level, one difference a facet at most.
 *
 * @param only Compare only runs whose names contain this.
 * @param rounded Let numbers differ by rounding, and do not compare hashes of their digits; so it is anyway where other
 * tools made the other digest.
 */
export function compareDigests(before: Digest, after: Digest, only = "", rounded = false): Comparison {
  const otherTools = Object.keys(after.madeWith).filter((tool) =>
    before.madeWith[tool] !== after.madeWith[tool]
  );
  const lacking = [...before.has, ...after.has].filter((what) =>
    !before.has.includes(what) || !after.has.includes(what)
  );
  const differences: Difference[] = [];
  let compared = 0;
  for (const run of new Set([...Object.keys(before.runs), ...Object.keys(after.runs)])) {
    const a = before.runs[run], b = after.runs[run];
    if (!run.includes(only) || lacking.includes(String((a ?? b)!.needs))) continue;
    compared++;
    if (a === undefined || b === undefined) {
      const [was, is] = [a, b].map((facets) => facets === undefined ? "no such run" : "a run");
      differences.push({ run, facet: "", path: "", before: was!, after: is! });
      continue;
    }
    for (const facet of new Set([...Object.keys(a), ...Object.keys(b)])) {
      const found = firstDifference(a[facet], b[facet], rounded || otherTools.length > 0);
      if (found !== undefined) differences.push({ run, facet, ...found });
    }
  }
  return { differences, compared, lacking, otherTools };
}

function firstDifference(
  a: Facet | undefined,
  b: Facet | undefined,
  rounded: boolean,
  path = "",
): Omit<Difference, "run" | "facet"> | undefined {
  if (!isTree(a) || !isTree(b) || Array.isArray(a) !== Array.isArray(b)) {
    return isSame(a, b, rounded) ? undefined : { path, before: show(a, b), after: show(b, a) };
  }
  for (const part of new Set([...Object.keys(a), ...Object.keys(b)])) {
    const found = firstDifference(a[part], b[part], rounded, path === "" ? part : `${path} ${part}`);
    if (found !== undefined) return found;
  }
  return undefined;
}

function isTree(facet: Facet | undefined): facet is { readonly [part: string]: Facet } {
  return typeof facet === "object" && facet !== null;
}

/** Numbers that come from arithmetic, and hashes, in a text. */
const DECIMAL = /-?\d+\.\d+(?:e[-+]?\d+)?/g, HASH = /#[0-9a-f]{8}/g;

function isSame(a: Facet | undefined, b: Facet | undefined, rounded: boolean): boolean {
  if (a === b) return true;
  if (!rounded || a === undefined || b === undefined) return false;
  if (typeof a === "number" && typeof b === "number") return isNear(a, b);
  if (typeof a !== "string" || typeof b !== "string") return false;
  const frame = (text: string) => text.replaceAll(HASH, "#").replaceAll(DECIMAL, "0").replaceAll(/ +/g, " ");
  const numbers = (text: string) => (text.match(DECIMAL) ?? []).map(Number);
  const others = numbers(b);
  return frame(a) === frame(b) && numbers(a).every((x, i) => isNear(x, others[i]!));
}

function isNear(a: number, b: number): boolean {
  return Math.abs(a - b) <= ROUNDING.absolute + ROUNDING.relative * Math.max(Math.abs(a), Math.abs(b));
}

/** Longest part of a value that is shown. */
const MAX_SHOWN = 160;

/** A value, or its part from the first difference on. */
function show(facet: Facet | undefined, other: Facet | undefined): string {
  if (facet === undefined) return "nothing";
  const text = JSON.stringify(facet), beside = JSON.stringify(other) ?? "";
  let at = 0;
  while (at < text.length && text[at] === beside[at]) at++;
  const from = text.length <= MAX_SHOWN ? 0 : Math.max(0, at - 60), to = from + MAX_SHOWN;
  return `${from > 0 ? "…" : ""}${text.slice(from, to)}${to < text.length ? "…" : ""}`;
}
