/**
 * Makes the tables of docs/results/study.md and gemma.md from results/, and with a Chromium the study's figures,
 * `docs/images/{eviction,equal_cost}_{light,dark}.png`.
 *
 * usage: deno run -A experiments/studies/comparison/paper.ts
 */
import { fileURLToPath } from "node:url";
import { DARK, LIGHT } from "../../../lib/plot/mod.ts";
import { drawEqualCost, makeCostTable, readTimes } from "./equal_cost.ts";
import { drawDifferences, makeLargeTables } from "./large.ts";

/** The tables of the pages, by the names that their comments give them. */
export async function makeTables(): Promise<{ readonly [name: string]: string }> {
  return {
    ...await makeLargeTables(),
    "equal cost": await makeCostTable(await readTimes()),
  };
}

export const PAGES = ["study", "gemma"].map((name) =>
  new URL(`../../../docs/results/${name}.md`, import.meta.url)
);

/** A page with its tables in place: each after a comment `<!-- table: NAME -->`, up to the next empty line; others stay. */
export const fillPage = (page: string, tables: { readonly [name: string]: string }): string =>
  page.replaceAll(
    /(<!-- table: ([\w ]+) -->\n\n).*?(?=\n\n)/gs,
    (found, head, name) => tables[name] === undefined ? found : head + tables[name].trimEnd(),
  );

if (import.meta.main) {
  const tables = await makeTables();
  for (const page of PAGES) await Deno.writeTextFile(page, fillPage(await Deno.readTextFile(page), tables));
  const figures = {
    eviction: await drawDifferences(),
    equal_cost: await drawEqualCost(await readTimes()),
  };
  for (const [file, figure] of Object.entries(figures)) {
    for (const [name, theme] of [["light", LIGHT], ["dark", DARK]] as const) {
      const path = new URL(`../../../docs/images/${file}_${name}.png`, import.meta.url);
      await figure.saveImage(fileURLToPath(path), { width: 1000, scale: 1.4, theme });
    }
  }
}
