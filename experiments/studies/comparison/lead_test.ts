import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { collectLosses, collectNeedles, drawLead, makeReadmeTables, README } from "./lead.ts";
import { fillPage } from "./paper.ts";
import { compareBy, findTrial, MEASURES, readWikitext } from "../retrieval/read.ts";

Deno.test("README has the table that its script makes, and words that the committed results bear out", async () => {
  const page = await Deno.readTextFile(README), tables = await makeReadmeTables();
  assertEquals(fillPage(page, tables), page, "run experiments/studies/comparison/lead.ts");
  assertStringIncludes(page, tables.results.trimEnd());
  const trials = await readWikitext();
  const find = (rule: string) => findTrial(trials, { rule, whole: "heads", ratio: 0.789 })!;
  for (const rule of ["key", "leave-one-out"]) {
    for (const measure of MEASURES) {
      assertEquals(compareBy(measure, find(rule), find("random")), "better", `${rule} by ${measure}`);
    }
  }
});

Deno.test("README's figure has a bar per rule and whole parts, and its words are those of the bars", async () => {
  const losses = await collectLosses(), needles = await collectNeedles();
  const shown = (bars: typeof losses, digits: number) =>
    Object.fromEntries(bars.map(({ name, value }) => [name, value.estimate.toFixed(digits)]));
  const readme = (await Deno.readTextFile(README)).replaceAll(/\s+/g, " "), loss = shown(losses, 3);
  assertStringIncludes(
    readme,
    `random eviction in all heads alike ${loss["random, all alike"]} nats, with seven heads whole ${
      loss["random, 7 heads whole"]
    }, leave-one-out with seven heads whole ${loss["leave-one-out, 7 heads whole"]}`,
  );
  const found = shown(needles, 0);
  assertStringIncludes(
    readme,
    `${found["key, all alike"]} with all heads alike, ${found["key, 7 heads whole"]} with seven heads whole`,
  );
  for (const isNarrow of [false, true]) {
    const { data } = (await drawLead(isNarrow)).toJson(), [first, , second] = data;
    assertEquals(first!["x"], losses.map(({ value }) => value.estimate));
    assertEquals(second!["x"], needles.map(({ value }) => value.estimate));
  }
  for (const { value: { estimate, low, high } } of [...losses, ...needles]) {
    assert(low <= estimate && estimate <= high);
  }
});
