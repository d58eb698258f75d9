/** Tests that docs/results/findings.md has the tables of its script, and words that these bear out. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { intervalOverRandom, readSettings } from "../comparison/large.ts";
import { showNats } from "../comparison/losses.ts";
import { fillPage } from "../comparison/paper.ts";
import { differenceOf, makeFindings, type Measured, PAGE, randomOf, readFindings } from "./findings.ts";

const page = await Deno.readTextFile(PAGE), words = page.replaceAll(/\s+/g, " ");

Deno.test("the page of findings has the tables that its script makes", async () => {
  const tables = await makeFindings();
  assertEquals(fillPage(page, tables), page, "run experiments/studies/cheap_skips/findings.ts");
  for (const table of Object.values(tables)) assertStringIncludes(page, table.trimEnd());
});

/** The verdicts against random in a table's rows, by rule. */
const verdictsOf = (table: string) =>
  table.split("\n").slice(2).map((row) => row.split("|").map((cell) => cell.trim()))
    .filter((row) => /[▲▼=]/.test(row.at(-2)!)).map((row) => [row[2], row.at(-2)]);

Deno.test("the words of the page of findings follow from its tables", async () => {
  const BETTER = "▲ ▲ ▲", WORSE = "▼ ▼ ▼", tables = await makeFindings();
  assertEquals(verdictsOf(tables["tiny queries"]!), [
    ["`learned`", BETTER],
    ["`variance inverted`", BETTER],
    ["`paper`", WORSE],
  ]);
  assertEquals(verdictsOf(tables["keys"]!), [
    ...[["`variance`", BETTER], ["`mean`", BETTER], ["`variance inverted`", WORSE]],
    ...[["`variance`", "= ▲ ="], ["`mean`", "= = ▼"], ["`variance inverted`", WORSE]],
  ]);
  const compression = verdictsOf(tables["compression"]!);
  assertEquals([compression.length, new Set(compression.map(([, verdict]) => verdict))], [
    10,
    new Set([BETTER]),
  ]);
  assertEquals(verdictsOf(tables["local"]!), [["`local`", BETTER], ["`local`", "= = ="]]);
});

Deno.test("differences and fractions in the words of the page are those of committed chunks", async () => {
  const find = (methods: readonly Measured[], name: string) => methods.find((own) => own.name === name)!;
  for (const model of ["smollm2-135m", "tiny"]) {
    const part = await readFindings(`findings/${model}_keys`), { methods } = part;
    assertStringIncludes(
      words,
      showNats(differenceOf(part, find(methods, "variance"), find(methods, "mean"))!),
    );
  }
  const local = await readFindings("results/smollm2-135m_local");
  const keys = find((await readFindings("findings/smollm2-135m_keys")).methods, "variance");
  const found = differenceOf(local, find(local.methods, "local"), keys)!;
  assertStringIncludes(words, `${showNats(found).slice(1)} nats more than \`keys\``);
  const tiny = await readFindings("findings/tiny_queries");
  const random = randomOf(tiny)!.loss, lossOf = (name: string) => find(tiny.methods, name).loss;
  const closed = (random - lossOf("learned")) / (random - lossOf("oracle"));
  assertStringIncludes(words, `closes ${(100 * closed).toFixed(0)}% of the distance`);
  assertStringIncludes(words, `The full model has a loss of ${lossOf("dense").toFixed(3)} nats`);
  for (const [side, rule] of [["queries", "paper"], ["keys", "variance"]] as const) {
    const [setting] = await readSettings(side);
    const { estimate, low, high } = intervalOverRandom(setting!, find(setting!.methods, `${rule} at 0.5`));
    assert(high < 0);
    const shown = [-estimate, -high, -low].map((value) => value.toFixed(3));
    assertStringIncludes(words, `loses ${shown[0]} [${shown[1]}, ${shown[2]}] more`);
  }
});
