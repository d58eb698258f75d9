import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { formatMarkdown } from "../../commands/cli/output/table.ts";
import { tabulateCosts } from "../costs.ts";
import { collectCosts, plotCosts } from "../costs/plots.ts";
import { tabulateMeasured } from "../costs/measured.ts";
import { README_MODEL, readResults, tabulatePresets } from "./table.ts";

const read = (path: string) => Deno.readTextFile(new URL(`../../../${path}`, import.meta.url));

Deno.test("README's results are those of the committed comparisons, every preset beside its own random baseline", async () => {
  const table = tabulatePresets(await readResults(), README_MODEL);
  assertEquals(table.rows.map(([preset]) => preset), ["`paper`", "`keys`", "`local`"]);
  assert(table.rows.every((row) => row.length === 6 && !row.includes("-")), "a preset without its baseline");
  assertStringIncludes(await read("README.md"), formatMarkdown(table));
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
