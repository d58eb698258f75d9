/** A budget that is asked for by its fraction: `--budget cache=0.3`. */
import { UsageError } from "../../../../lib/errors.ts";
import type { ResolvedOptions } from "../../../../lib/methods/bind/options.ts";
import type { Budgeted } from "../../../../lib/sweep/compare/match.ts";
import { MATCHES } from "../../../../lib/sweep/compare/match.ts";
import { type Flags, text, under } from "./flag.ts";
import type { Progress } from "../output/progress.ts";
import { type FlagValues, textOf } from "./parse.ts";

/** The flag of commands that search the ratio. */
export const BUDGET = under("Method", {
  budget: text(
    "cache=0.3",
    "fraction of the full model's KV cache (also rows, the same), pairs or flops to retain, instead of a ratio: the ratio of each " +
      "method is searched by measured runs, within half a point",
  ),
}) satisfies Flags;

/** Tells at which ratio a method has the budget. */
export function tellRatio(progress: Progress, { pruneRatio, kvRatio }: ResolvedOptions): void {
  progress.line(`Ratio ${pruneRatio > 0 ? pruneRatio : kvRatio} retains the budget.`);
}

/** Flags that set a ratio or a budget themselves. */
const RATIOS = ["prune-ratio", "kv-ratio", "skip-ratios", "ratios", "match"];

/**
 * Reads `--budget`.
 *
 * @param methods The methods that it is for.
 * @throws {UsageError} If it names no budget, a ratio is given too, or there is no method.
 */
export function readBudget(
  values: FlagValues,
  ...methods: readonly (ResolvedOptions | undefined)[]
): Budgeted | undefined {
  const given = textOf(values, "budget");
  if (given === undefined) return undefined;
  if (methods.includes(undefined)) {
    throw new UsageError("Cannot use --budget without a method: expected --method or --preset");
  }
  const other = RATIOS.find((name) => values.has(name));
  if (other !== undefined) throw new UsageError(`Cannot use --budget with --${other}: expected one of them`);
  const [, name, fraction] = given.match(/^(\w+)=(0?\.\d+|\d+(?:\.\d+)?%)$/) ?? [];
  const match = name === "rows" ? "cache" : MATCHES.find((match) => match === name);
  const target = fraction?.endsWith("%") ? Number(fraction.slice(0, -1)) / 100 : Number(fraction);
  if (match !== undefined && target > 0 && target < 1) return { match, target };
  const limit = /^[\d.]+[hms]/.test(given) ? ` (a limit of time is --time ${given}, of deno task sweep)` : "";
  throw new UsageError(
    `Cannot use --budget ${given}: expected ${
      ["rows", ...MATCHES].join(", ")
    } = a fraction between 0 and 1, as in cache=0.3${limit}`,
  );
}
