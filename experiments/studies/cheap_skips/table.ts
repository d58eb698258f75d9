/**
 * The first table of the README: what the presets cost beside chance with their own options, from committed
 * comparisons.
 *
 * usage: deno run -A $(deno run -A --no-config --no-lock .std/flags.ts) experiments/studies/cheap_skips/table.ts
 *
 * Each file in results/ is the compare.json of `deno task compare --model MODEL --text FILE --tokens N
 * --methods PRESET,…,random --seeds 3`, with other methods or fewer seeds where its options say so; a model's presets
 * may stand in several files.
 */
import { formatInterval } from "../../../lib/plot/mod.ts";
import { plural } from "../../../lib/plural.ts";
import { PRESETS } from "../../../lib/methods/mod.ts";
import { BUDGETS, type Comparison } from "../../../lib/sweep/mod.ts";
import { formatMarkdown } from "../../commands/cli/output/table.ts";

const FOLDER = new URL("results/", import.meta.url);

/** The committed comparisons, by model. */
export async function readResults(): Promise<Comparison[]> {
  const names = await Array.fromAsync(Deno.readDir(FOLDER), ({ name }) => name);
  return await Promise.all(
    names.filter((name) => name.endsWith(".json")).sort().map(async (name) =>
      JSON.parse(await Deno.readTextFile(new URL(name, FOLDER)))
    ),
  );
}

/** Budgets that a skip changes. */
const SHOWN = ["queries", "pairs", "attentionFlops", "rows"] as const;

/** Lays out the presets of comparisons, each beside its own control. */
export function tabulatePresets(comparisons: readonly Comparison[]) {
  const rows = comparisons.flatMap(({ methods, environment }) =>
    Object.keys(PRESETS).flatMap((preset) => {
      const own = methods.find(({ name }) => name === preset);
      if (own === undefined) return [];
      const chance = methods.find(({ name }) => name === `random for ${preset}`)!;
      const shown = (interval: typeof own.toDense) => interval === null ? "-" : formatInterval(interval, 3);
      return [[
        `${environment.model}, ${environment.textTokens.toLocaleString("en")} tokens`,
        `\`${preset}\``,
        ...[
          shown(own.toDense),
          `${shown(chance.toDense)}, ${plural(chance.seeds, "seed")}`,
          shown(own.toRandom),
        ],
        ...SHOWN.map((name) => `${(100 * own.shares[name]).toFixed(0)}%`),
      ]];
    })
  );
  return {
    columns: [
      ...["model", "preset", "costs", "chance costs", "less chance"],
      ...SHOWN.map((name) => BUDGETS[name].label),
    ],
    left: [true, true],
    rows,
  };
}

if (import.meta.main) console.log(formatMarkdown(tabulatePresets(await readResults())));
