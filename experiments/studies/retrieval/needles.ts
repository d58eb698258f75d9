/** Needles found with whole layers, whole heads and none, each next to random eviction with the same settings. */
import { mean } from "../../../lib/math/mean.ts";
import { plural } from "../../../lib/plural.ts";
import { formatInterval } from "../../../lib/plot/mod.ts";
import { pairedShareInterval, shareInterval } from "../../../lib/stats/mod.ts";
import type { PlainTable } from "../../commands/cli/output/table.ts";
import { nameOf, WHOLE } from "./names.ts";
import { readLines } from "./read.ts";

/** Lengths of the texts, in tokens. */
export const LENGTHS = [512, 2048] as const;

/** Needles of one length that a rule finds with its whole parts. */
export interface Found {
  readonly rule: string;
  readonly whole: string;
  /** Whether tokens are evicted once, between prompt and answer, and not at every block start. */
  readonly once?: boolean;
  /** Of random the mean over its seeds. */
  readonly found: number;
  readonly seeds?: number;
  /** Per text 1 if found, else 0, of random the mean over seeds. */
  readonly answers: readonly number[];
  /** Per text 1 if the full model does not find it but the rule does, -1 the other way round; left out where it was not run. */
  readonly differences?: readonly number[];
}

/** All that was measured at one length. */
export interface Needles {
  readonly tokens: number;
  readonly items: number;
  /** Needles that the full model finds. */
  readonly full: number;
  readonly rows: readonly Found[];
}

/** Differences by text of two lists of answers. */
const subtract = (own: readonly number[], other: readonly number[]) =>
  own.map((value, item) => value - other[item]!);

interface Line {
  readonly trial: string;
  /** Per text 1 if found, else 0. */
  readonly found: readonly number[];
}

/** A set of measure.ts: a row per rule and whole parts, with differences from the full model where that was run. */
async function readSet(name: string): Promise<Found[]> {
  const [, ...lines] = await readLines<Line>(name);
  const full = lines.find(({ trial }) => trial === "dense")?.found;
  const groups = Map.groupBy(
    lines.filter(({ trial }) => trial !== "dense"),
    ({ trial }) => trial.replace(/ \d+$/, ""),
  );
  return [...groups].map(([trial, own]) => {
    const [rule, whole] = trial.split(" ") as [string, string];
    const answers = own[0]!.found.map((_, item) => mean(own.map(({ found }) => found[item]!)));
    return {
      ...{ rule, whole, answers, found: answers.reduce((sum, answer) => sum + answer, 0) },
      ...(rule === "random" && { seeds: own.length }),
      ...(full && { differences: subtract(answers, full) }),
    };
  });
}

/** Reads the committed results of a length. */
export async function readNeedles(tokens: number): Promise<Needles> {
  const name = `controls_needle_${tokens}`, [, ...lines] = await readLines<Line>(name);
  const full = lines.find(({ trial }) => trial === "dense")!.found;
  return {
    tokens,
    items: full.length,
    full: full.reduce((sum, one) => sum + one, 0),
    rows: await readSet(name),
  };
}

/** The same for evictions once, between prompt and answer. */
export const readOnce = async (tokens: number): Promise<Needles> => ({
  ...await readNeedles(tokens),
  rows: (await readSet(`once_needle_${tokens}`)).map((row) => ({ ...row, once: true })),
});

/** The number that random eviction finds with the same whole parts. */
export const randomOf = ({ rows }: Needles, whole: string): Found | undefined =>
  rows.find((row) => row.rule === "random" && row.whole === whole);

/** A fraction in whole percent. */
export const percent = (value: number): string => `${(100 * value).toFixed(0)}%`;

/** A difference of fractions with its interval, in points. */
export const points = (differences: readonly number[]): string => {
  const { estimate, low, high } = pairedShareInterval(differences);
  return formatInterval({ estimate: 100 * estimate, low: 100 * low, high: 100 * high }, 0);
};

/** A number found of all texts, with Wilson's interval. */
function share({ found, seeds }: Found, items: number): string {
  const { low, high } = shareInterval(found / items, items);
  const of = seeds === undefined ? "" : `, ${plural(seeds, "seed")}`;
  return `${Number(found.toFixed(1))} [${Math.round(items * low)}, ${Math.round(items * high)}]${of}`;
}

/** A row per whole parts, rule and length that has a control: how many needles it finds, and random with the same settings. */
export function tabulateNeedles(all: readonly Needles[]): PlainTable {
  const rows = Object.keys(WHOLE).flatMap((whole) =>
    all.flatMap((own) => {
      const random = randomOf(own, whole), { items, tokens, full } = own;
      if (random === undefined) return [];
      return own.rows.filter((row) => row.whole === whole && row !== random).map((row) => [
        ...[WHOLE[whole]!, nameOf(row), String(tokens), String(items), String(full), share(row, items)],
        row.differences ? points(row.differences) : "-",
        share(random, items),
        points(subtract(row.answers, random.answers)),
      ]);
    })
  );
  return {
    columns: [
      ...["whole", "rule", "tokens", "texts", "full model finds", "found"],
      ...["difference from the full model, points", "random finds", "difference from random, points"],
    ],
    left: [true, true],
    rows,
  };
}
