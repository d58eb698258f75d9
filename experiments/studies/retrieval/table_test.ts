import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { formatMarkdown } from "../../commands/cli/output/table.ts";
import { expandGrids, readGrids } from "../../../lib/sweep/mod.ts";
import { withScore } from "../comparison/tables.ts";
import { chunkInterval, readResults, tabulateRetrieval } from "./table.ts";

Deno.test("the page of retrieval layers has the table of the committed results, whose grid a sweep takes", async () => {
  const page = await Deno.readTextFile(
    new URL("../../../docs/results/retrieval-layers.md", import.meta.url),
  );
  const results = await readResults();
  assertStringIncludes(page, formatMarkdown(tabulateRetrieval(results)));
  const grid = JSON.parse(await Deno.readTextFile(new URL("grid.json", import.meta.url)));
  const asked = expandGrids(readGrids(grid)).map(({ kvFusion, kvRatio, whole }) =>
    [kvFusion, kvRatio, whole].join()
  );
  const ran = results.trials.map(({ kvFusion, kvRatio, whole }) => [kvFusion, kvRatio, whole].join());
  assertEquals(asked.sort(), ran.sort());
});

Deno.test("the page of retrieval layers has the needles of the committed results", async () => {
  const page = await Deno.readTextFile(
    new URL("../../../docs/results/retrieval-layers.md", import.meta.url),
  );
  const results = JSON.parse(await Deno.readTextFile(new URL("results/needle_512.json", import.meta.url)));
  const percent = (value: number) => (100 * value).toFixed(0);
  for (const [whole, layers] of [["auto", "17, 18, 20, 23"], ["none", "none"]] as const) {
    const { filtered, difference, items } = results[whole].results[0];
    const { estimate, low, high } = withScore(difference, items);
    const points = `${percent(estimate)} [${percent(low)}, ${percent(high)}]`;
    assertStringIncludes(page, `| ${layers} | ${percent(filtered.value)}% | ${points} |`);
  }
  assertStringIncludes(page, `full model: ${percent(results.auto.results[0].dense.value)}%`);
});

Deno.test("chunkInterval() takes whole chunks as the unit", async () => {
  const results = await readResults(), { dense, trials } = results;
  const { estimate, low, high } = chunkInterval(results, trials[0]!.lossBlocks, dense.lossBlocks);
  const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);
  const mean = (sum(trials[0]!.lossBlocks.sums) - sum(dense.lossBlocks.sums)) / sum(dense.lossBlocks.sizes);
  assert(Math.abs(estimate - mean) < 1e-9 && low < estimate && estimate < high);
  const none = chunkInterval(results, dense.lossBlocks, dense.lossBlocks);
  assertEquals([none.estimate, none.low, none.high], [0, 0, 0]);
});
