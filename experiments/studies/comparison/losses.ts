/** Losses of the study's parts on a text: methods by name, their baselines, and intervals over whole chunks. */
import { withoutRatio } from "../../../lib/plot/mod.ts";
import { type Interval, pairedInterval } from "../../../lib/stats/mod.ts";
import type { Comparison } from "../../../lib/sweep/mod.ts";
import { readJson } from "../../commands/cli/files.ts";
import { readPart } from "./tables.ts";

export type Method = Comparison["methods"][number];

/** Sources of the methods. */
const SOURCES = await readJson(
  decodeURIComponent(new URL("../../tools/method_sources.json", import.meta.url).pathname),
) as {
  readonly [method: string]: { readonly paper?: string; readonly adapted: string } | undefined;
};

/** A method's name, with `(adapted)` if it differs from its paper. */
export function nameOf({ name, options }: Pick<Method, "name" | "options">): string {
  const rule = withoutRatio(name), { paper, adapted } = SOURCES[rule] ?? { adapted: "none" };
  if (rule === "local" && options!.recent === 64) return "local (older preset)";
  return paper !== undefined && adapted !== "none" && rule !== "variance" ? `${rule} (adapted)` : rule;
}

/** A part's methods on its text. */
export interface Losses {
  readonly chunks: number;
  readonly methods: readonly Method[];
}

/** The losses of a part that was run on a text. */
export async function readLosses(part: string): Promise<Losses> {
  const { methods, environment } = await readPart(part);
  return { chunks: environment.textTokens / environment.context, methods };
}

/** Difference of mean losses, its interval by Student's t over whole chunks, since evictions affect the rest of one. */
export function chunkInterval(
  chunks: number,
  { lossBlocks: own }: Method,
  { lossBlocks: other }: Method,
  confidence = 0.95,
): Interval {
  const perChunk = own.sums.length / chunks;
  const join = ({ sums, sizes }: Method["lossBlocks"]) => {
    const add = (values: readonly number[]) =>
      Array.from(
        { length: chunks },
        (_, i) => values.slice(i * perChunk, (i + 1) * perChunk).reduce((sum, value) => sum + value, 0),
      );
    return { sums: add(sums), sizes: add(sizes) };
  };
  return pairedInterval(join(other), join(own), confidence)!;
}

/** The same for one of `count` differences, whose intervals hold all at once with 95% (Bonferroni). */
export const simultaneousInterval = (chunks: number, own: Method, other: Method, count: number): Interval =>
  chunkInterval(chunks, own, other, 1 - 0.05 / count);

export const isBaseline = ({ name }: Pick<Method, "name">) => /^(dense|random|periodic)/.test(name);
