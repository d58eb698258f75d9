/**
 * The results table of the README: costs of the presets next to random baselines with the same options, from committed
 * comparisons.
 *
 * usage: deno run -A experiments/studies/cheap_skips/table.ts
 *
 * Each file in results/ is the compare.json of
 * `deno task compare --model MODEL --text FILE --tokens N --methods PRESET,…,random --seeds 3`. Some have other methods
 * or fewer seeds, as their options show. The presets of one model may be in several files.
 */
import { formatInterval } from "../../../lib/plot/mod.ts";
import { filtersQueries, PRESETS, readRecord } from "../../../lib/methods/mod.ts";
import type { Comparison } from "../../../lib/sweep/mod.ts";
import { chunkInterval } from "../comparison/losses.ts";
import { formatMarkdown, type PlainTable } from "../../commands/cli/output/table.ts";

/** The model that README shows. */
export const README_MODEL = "smollm2-135m";

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

/** Budgets that README shows. */
const SHOWN = ["cache", "attentionFlops"] as const;
const HEADINGS = [
  "preset",
  "loss increase",
  "of the random baseline",
  "difference",
  "KV cache retained",
  "attention FLOPs retained",
];

/** Lays out the presets of a model's comparisons, each next to its own random baseline. */
export function tabulatePresets(comparisons: readonly Comparison[], model: string): PlainTable {
  const own = comparisons.filter(({ environment }) => environment.model === model);
  const rows = own.flatMap(({ methods, environment }) =>
    Object.keys(PRESETS).flatMap((preset) => {
      const method = methods.find(({ name }) => name === preset);
      if (method === undefined) return [];
      const random = methods.find(({ name }) => name === `random for ${preset}`)!;
      const chunks = environment.textTokens / environment.context, dense = methods[0]!;
      // An eviction acts on the rest of its chunk.
      const intervals = filtersQueries(readRecord(method.options!))
        ? [method.lossIncrease, random.lossIncrease, method.toRandom]
        : [[method, dense], [random, dense], [method, random]].map(([a, b]) => chunkInterval(chunks, a!, b!));
      return [[
        `\`${preset}\``,
        ...intervals.map((interval) => interval === null ? "-" : formatInterval(interval, 3)),
        ...SHOWN.map((name) => `${(100 * method.retained[name]).toFixed(0)}%`),
      ]];
    })
  );
  return { columns: HEADINGS, left: [true], rows };
}

if (import.meta.main) console.log(formatMarkdown(tabulatePresets(await readResults(), README_MODEL)));
