/** The notebooks as they are kept: following the rules, with the outputs of the code that stands there. */
import { fileURLToPath } from "node:url";
import { assert, assertEquals } from "@std/assert";
import { readDisplayed } from "./figures.ts";
import { checkForm, digestCells, joinText, LIMITS, readNotebook } from "./notebook.ts";
import { checkOutputs, PLOTLY_MIME } from "./outputs.ts";

const FOLDER = fileURLToPath(new URL("../../../notebooks/", import.meta.url));
const names = [...Deno.readDirSync(FOLDER)].map(({ name }) => name).filter((name) => name.endsWith(".ipynb"))
  .sort();

Deno.test("notebooks/ holds the notebooks, numbered without a gap", () => {
  assertEquals(names.map((name) => name.slice(0, 2)), names.map((_, i) => String(i + 1).padStart(2, "0")));
  assert(names.length >= 7);
});

for (const name of names) {
  Deno.test(`notebooks/${name} follows the rules and holds the outputs of its own code`, async () => {
    const path = `${FOLDER}${name}`, notebook = await readNotebook(path);
    assertEquals(checkForm(notebook), []);
    assertEquals(checkOutputs(notebook), []);
    assert((await Deno.stat(path)).size < LIMITS.bytes);
    const kept = notebook.metadata.tokenfilter as { cells: string } | undefined;
    assertEquals(kept?.cells, await digestCells(notebook), "stale outputs: run deno task notebooks --update");
    for (const { data } of notebook.cells.flatMap(({ outputs = [] }) => outputs)) {
      if (data === undefined || !(PLOTLY_MIME in data)) continue;
      const html = joinText(data["text/html"]);
      assert(
        html.includes('src="data:image/svg+xml'),
        "a figure has no static image: run it where Chromium is",
      );
      assert(readDisplayed(html) !== undefined);
    }
  });
}
