import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { PRESETS } from "../../../lib/methods/mod.ts";
import { formatMarkdown } from "../../commands/cli/output/table.ts";
import { tabulateCosts } from "../costs.ts";
import { collectCosts, plotCosts } from "../costs/plots.ts";
import { tabulateMeasured } from "../costs/measured.ts";
import { readResults, tabulatePresets } from "./table.ts";

const read = (path: string) => Deno.readTextFile(new URL(`../../../${path}`, import.meta.url));

Deno.test("README's first table is what the committed comparisons say, every preset beside its own control", async () => {
  const results = await readResults(), table = tabulatePresets(results);
  assert(results.length > 0);
  const models = new Set(results.map(({ environment }) => environment.model));
  assertEquals(table.rows.length, models.size * Object.keys(PRESETS).length);
  assert(table.rows.every((row) => !row.includes("-")), "a preset without its control");
  const readme = await read("README.md");
  assertStringIncludes(readme, formatMarkdown(table));
  assertEquals(
    readme.indexOf("\n| "),
    readme.indexOf(`\n${formatMarkdown(table)}`),
    "another table comes first",
  );
});

Deno.test("the table of docs/results/costs.md is what shapes and options say, and its page has a figure for each measure", async () => {
  const rows = collectCosts();
  assertStringIncludes(await read("docs/results/costs.md"), formatMarkdown(tabulateCosts(rows)));
  const measured = tabulateMeasured(), performance = await read("docs/explain/performance.md");
  assertStringIncludes(await read("docs/results/costs.md"), formatMarkdown(measured));
  for (const [name, , prefill, , decode, , cache] of measured.rows) {
    const line = performance.split("\n").find((line) => line.startsWith(`| ${name} |`))!;
    const cells = line.split("|").slice(2, 5).map((cell) => cell.trim().split(" ")[0]);
    assertEquals([prefill, decode, cache], cells, name);
  }
  const figures = plotCosts(rows);
  assertEquals(figures.length, 6);
  assert(
    figures.every(({ data }) =>
      data.every(({ y }) => (y as number[]).every((share) => share > 0 && share <= 1))
    ),
  );
});
