import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { UsageError } from "../../../lib/errors.ts";
import { withFolder } from "../../commands/testing.ts";
import { checkForm, digestCells, formatNotebook, type Notebook, readNotebook } from "./notebook.ts";
import { codeCell, notebookOf, textCell } from "./testing.ts";

const FIRST = "# Title\n\n**Question.** Why?\n\n**Inputs.** None.\n\n**Run time.** 1 s.";
const good = notebookOf(textCell(FIRST), codeCell("const a = 1;\nconsole.log(a);"), codeCell("a;"));

Deno.test("checkForm() finds nothing wrong with a notebook that follows the rules", () => {
  assertEquals(checkForm(good), []);
});

Deno.test("checkForm() wants question, inputs and run time in the first cell", () => {
  assertEquals(checkForm(notebookOf(textCell("**Question.** Why?"))).length, 2);
  assertEquals(checkForm(notebookOf(codeCell("1;"))).length, 3);
});

Deno.test("checkForm() counts cells and lines", () => {
  const cells = Array.from({ length: 24 }, () => codeCell("1;"));
  assertEquals(checkForm(notebookOf(textCell(FIRST), ...cells)), []);
  assertStringIncludes(checkForm(notebookOf(textCell(FIRST), ...cells, codeCell("1;"))).join(), "26 cells");
  const lines = (count: number) => Array(count).fill("1;").join("\n");
  assertEquals(checkForm(notebookOf(textCell(FIRST), codeCell(lines(15)))), []);
  assertStringIncludes(
    checkForm(notebookOf(textCell(FIRST), codeCell(lines(16)))).join(),
    "cell 2: found 16 lines",
  );
  assertStringIncludes(checkForm(notebookOf(textCell(FIRST), codeCell(" "))).join(), "no code");
});

Deno.test("checkForm() lets notebooks import what readers can import", () => {
  const check = (code: string) => checkForm(notebookOf(textCell(FIRST), codeCell(code)));
  assertEquals(check('import { a } from "@tokenfilter/tokenfilter/plot";'), []);
  assertStringIncludes(check('import { a } from "../lib/a.ts";').join(), '"../lib/a.ts"');
  assertStringIncludes(check('const { a } = await import("npm:a");').join(), '"npm:a"');
  assertStringIncludes(check('import "@tokenfilter/tokenfilter/secret";').join(), "secret");
});

Deno.test("digestCells() follows code alone", async () => {
  const digest = await digestCells(good);
  assertEquals(await digestCells(notebookOf(textCell("other words"), ...good.cells.slice(1))), digest);
  const changed = await digestCells(notebookOf(...good.cells.slice(0, 2), codeCell("a + 1;")));
  assertEquals(changed === digest, false);
});

Deno.test("formatNotebook() and readNotebook() keep a notebook as it is", async () => {
  const outputs = [
    { output_type: "stream", name: "stdout", text: "one\ntwo\n" },
    {
      output_type: "display_data",
      metadata: {},
      data: { "a/json": { x: [1, 2] }, "text/html": "<p>\n</p>" },
    },
  ] as const;
  const notebook: Notebook = notebookOf(textCell(FIRST), { ...codeCell("1;"), outputs, execution_count: 3 });
  const text = formatNotebook(notebook);
  assertStringIncludes(text, '"a/json": {"x":[1,2]}');
  assertStringIncludes(text, '"one\\n",\n');
  await withFolder(async (folder) => {
    const path = `${folder}/a.ipynb`;
    await Deno.writeTextFile(path, text);
    assertEquals(formatNotebook(await readNotebook(path)), text);
  });
});

Deno.test("readNotebook() refuses what is no notebook, in one line", async () => {
  await withFolder(async (folder) => {
    for (const text of ["null", "{}", '{"cells": [], "nbformat": 3}', "not JSON"]) {
      await Deno.writeTextFile(`${folder}/a.ipynb`, text);
      const error = await assertRejects(() => readNotebook(`${folder}/a.ipynb`), UsageError, "Cannot read");
      assertEquals(error.message.includes("\n"), false);
    }
  });
});
