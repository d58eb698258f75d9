import { assert, assertStringIncludes } from "@std/assert";
import { comparedAtRatios } from "../../lib/sweep/mod.ts";
import { PARTS } from "./measure.ts";
import { readPart, showPart } from "./tables.ts";

Deno.test("the study's parts name methods and shares that a comparison knows", () => {
  for (const [name, { methods, ratios }] of Object.entries(PARTS)) {
    const asked = comparedAtRatios(methods.split(","), {}, 1, ratios.split(",").map(Number));
    const own = new Set(asked.map((method) => method.name.replace(/ at .*/, "")));
    assert(methods.split(",").every((method) => own.has(method) || /^(random|periodic)/.test(method)), name);
  }
});

Deno.test("README of the study has the table of every committed result, as its command makes it", async () => {
  const readme = await Deno.readTextFile(new URL("README.md", import.meta.url));
  const names = Array.from(Deno.readDirSync(new URL("results/", import.meta.url)), ({ name }) => name);
  const parts = names.filter((name) => name.endsWith(".json")).map((name) => name.replace(/\.json$/, ""));
  assert(parts.length > 0);
  for (const part of parts) {
    const comparison = await readPart(part), table = showPart(part, comparison);
    assertStringIncludes(readme, `\`experiments/study/tables.ts ${part}\`\n\n${table}`);
    assertStringIncludes(readme, comparison.environment.label!);
  }
});
