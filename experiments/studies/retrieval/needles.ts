/** The table of needles with and without whole layers, from results/. */
import { formatInterval } from "../../../lib/plot/mod.ts";
import type { Interval } from "../../../lib/stats/mod.ts";
import type { PlainTable } from "../../commands/cli/output/table.ts";
import { withScore } from "../comparison/tables.ts";

/** Lengths of the texts whose results are committed, in tokens. */
const LENGTHS = [512, 2048] as const;
/** The least fraction of the full model's accuracy with whole layers or heads, and the most without. */
const LEAST = 0.85, MOST = 1 / 3;
const WHOLE = {
  auto: "layers 17, 18, 20, 23",
  heads: "7 KV heads",
  "leave-one-out": "7 KV heads, rule `leave-one-out`",
  none: "none",
};

interface Accuracy {
  readonly items: number;
  readonly dense: { readonly value: number };
  readonly filtered: { readonly value: number };
  readonly difference: Interval & { readonly gained: number; readonly lost: number };
}

/** Evaluations of one length: the record of each by the option `whole`. */
interface Needles {
  readonly length: number;
  readonly runs: { readonly [whole: string]: { readonly results: readonly Accuracy[] } };
}

/** Reads committed results. */
export function readNeedles(): Promise<Needles[]> {
  return Promise.all(LENGTHS.map(async (length) => {
    const path = new URL(`results/needle_${length}.json`, import.meta.url);
    return { length, runs: JSON.parse(await Deno.readTextFile(path)) };
  }));
}

/** Whether an estimate is at most a limit, and whether its interval includes the limit. */
export function judge({ estimate, low, high }: Interval, most: number): string {
  return (estimate <= most ? "met" : "missed") +
    (low <= most && most < high ? ", limit in the interval" : "");
}

/** A fraction in whole percent. */
export const percent = (value: number): string => `${(100 * value).toFixed(0)}%`;

/** A difference of fractions with its interval, in points. */
export const points = ({ estimate, low, high }: Interval): string =>
  formatInterval({ estimate: 100 * estimate, low: 100 * low, high: 100 * high }, 0);

/** A row per length and whole layers or heads: accuracy, its distance from the full model, and whether the target is met. */
export function tabulateNeedles(all: readonly Needles[]): PlainTable {
  const rows = all.flatMap(({ length, runs }) =>
    Object.entries(WHOLE).filter(([whole]) => whole in runs).map(([whole, name]) => {
      const { dense, filtered, difference, items } = runs[whole]!.results[0]!;
      const { estimate, low, high } = withScore(difference, items), isNone = whole === "none";
      const limit = ((isNone ? MOST : LEAST) - 1) * dense.value;
      const result = isNone
        ? judge({ estimate, low, high }, limit)
        : judge({ estimate: -estimate, low: -high, high: -low }, -limit);
      return [
        ...[name, String(length), String(items), percent(dense.value), percent(filtered.value)],
        points({ estimate, low, high }),
        `${isNone ? "at most" : "at least"} ${(100 * limit).toFixed(1)}`,
        result,
      ];
    })
  );
  return {
    columns: ["whole", "tokens", "texts", "full model", "accuracy", "difference, points", "target", "result"],
    left: [true, false, false, false, false, false, true, true],
    rows,
  };
}
