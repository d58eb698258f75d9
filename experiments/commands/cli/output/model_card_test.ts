/** Tests that the committed page of each model is the one that its committed results give. */
import { assertEquals } from "@std/assert";
import { cardName, writeCard } from "./model_card.ts";

const FOLDER = new URL("../../../../docs/results/models/", import.meta.url);

Deno.test("the pages of results per model are those of the results next to them", async () => {
  const names = (await Array.fromAsync(Deno.readDir(FOLDER), ({ name }) => name)).sort();
  const results = names.filter((name) => name.endsWith(".json"));
  assertEquals(names, results.flatMap((name) => [name, name.replace(/json$/, "md")]));
  for (const name of results) {
    const result = JSON.parse(await Deno.readTextFile(new URL(name, FOLDER))), page = cardName(result);
    assertEquals(page, name.replace(/json$/, "md"));
    assertEquals(writeCard(result), await Deno.readTextFile(new URL(page, FOLDER)));
  }
});
