/** Needles found with whole layers, whole heads and none, each next to random eviction with the same settings. */
import { mean } from "../../../lib/math/mean.ts";
import { plural } from "../../../lib/plural.ts";
import { formatInterval } from "../../../lib/plot/mod.ts";
import { pairedShareInterval, shareInterval } from "../../../lib/stats/mod.ts";
import type { PlainTable } from "../../commands/cli/output/table.ts";
import { hasLines, readLines } from "./read.ts";

/** Lengths of the texts, in tokens. */
export const LENGTHS = [512, 2048] as const;

/** Needles of one length that a rule finds with its whole parts. */
export interface Found {
  readonly rule: string;
  readonly whole: string;
  /** Of random the mean over its seeds. */
  readonly found: number;
  readonly seeds?: number;
  /** Needles found that the full model does not find, and the other way round; undefined where only the sum was recorded. */
  readonly gained?: number;
  readonly lost?: number;
}

/** All that was measured at one length. */
export interface Needles {
  readonly tokens: number;
  readonly items: number;
  /** Needles that the full model finds. */
  readonly full: number;
  readonly rows: readonly Found[];
}

/** Reads committed results: of the rules evaluations, of random a set of measure.ts. */
export async function readNeedles(tokens: number): Promise<Needles> {
  const path = new URL(`results/needle_${tokens}.json`, import.meta.url);
  const runs = JSON.parse(await Deno.readTextFile(path));
  const name = `controls_needle_${tokens}`;
  type Control = { readonly trial: string; readonly found: readonly number[] };
  const [, ...controls] = hasLines(name) ? await readLines<Control>(name) : [];
  const { items, dense } = runs.none.results[0], full = Math.round(dense.value * items);
  const rules: Found[] = Object.entries<{ results: { difference: { gained: number; lost: number } }[] }>(runs)
    .map(([name, { results }]) => {
      const { gained, lost } = results[0]!.difference, isOther = name === "leave-one-out";
      const [rule, whole] = isOther ? [name, "heads"] : ["key", name];
      return { rule, whole, found: full + gained - lost, gained, lost };
    });
  const groups = Map.groupBy(controls, ({ trial }) => trial.replace(/ \d+$/, ""));
  const random = [...groups].map(([trial, own]): Found => {
    const [rule, whole] = trial.split(" ") as [string, string];
    const counts = own.map(({ found }) => found.filter((one) => one === 1).length);
    return { rule, whole, found: mean(counts), seeds: own.length };
  });
  return { tokens, items, full, rows: [...rules, ...random] };
}

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

const WHOLE: { readonly [whole: string]: string } = {
  none: "none",
  auto: "4 layers",
  heads: "7 KV heads",
};

/** A row per length, whole parts and rule that has a control: how many needles it finds, and random with the same settings. */
export function tabulateNeedles(all: readonly Needles[]): PlainTable {
  const rows = all.flatMap((own) =>
    Object.keys(WHOLE).flatMap((whole) => {
      const random = randomOf(own, whole), { items, tokens, full } = own;
      if (random === undefined) return [];
      const share = ({ found, seeds }: Found) => {
        const { low, high } = shareInterval(found / items, items);
        const of = seeds === undefined ? "" : `, ${plural(seeds, "seed")}`;
        return `${Number(found.toFixed(1))} [${Math.round(items * low)}, ${Math.round(items * high)}]${of}`;
      };
      return own.rows.filter((row) => row.whole === whole && row !== random).map((row) => [
        ...[WHOLE[whole]!, `\`${row.rule}\``, String(tokens), String(items), String(full), share(row)],
        points(
          Array.from({ length: items }, (_, i) => i < row.gained! ? 1 : i < row.gained! + row.lost! ? -1 : 0),
        ),
        share(random),
      ]);
    })
  );
  return {
    columns: [
      ...["whole", "rule", "tokens", "texts", "full model finds", "found"],
      ...["difference from the full model, points", "random finds"],
    ],
    left: [true, true],
    rows,
  };
}
