/** The file of a notebook, and the checks of its form, cells and outputs: each finds its fault, and nothing in a good one. */
import { assertEquals, assertMatch, assertNotEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { UsageError } from "../../../lib/errors.ts";
import { testSlow } from "../../../lib/testing.ts";
import { Figure } from "../../../lib/plot/mod.ts";
import { withFolder } from "../../commands/testing.ts";
import {
  type Cell,
  checkForm,
  digestCells,
  formatNotebook,
  type Notebook,
  type Output,
  readNotebook,
} from "./notebook.ts";
import { checkOutputs, checkSize } from "./outputs.ts";
import { checkCells } from "./static_checks.ts";
import { codeCell, notebookOf, textCell } from "./testing.ts";

const FIRST = "# Title\n\n**Question.** Why?\n\n**Inputs.** None.\n\n**Run time.** 1 s.";
const IMPORT = 'import { METHOD_NAMES } from "@tokenfilter/tokenfilter";';
const good = notebookOf(textCell(FIRST), codeCell("const a = 1;\nconsole.log(a);"), codeCell("a;"));

Deno.test("checkForm() finds what breaks the rules of a notebook", () => {
  const lines = (count: number) => Array(count).fill("1;").join("\n"), first = textCell(FIRST);
  const cells = Array.from({ length: 24 }, () => codeCell("1;"));
  const cases: [Cell[], ...RegExp[]][] = [
    [[...good.cells]],
    [[textCell("**Question.** Why?")], /Inputs/, /Run time/],
    [[codeCell("1;")], /Question/, /Inputs/, /Run time/],
    [[first, ...cells]],
    [[first, ...cells, codeCell("1;")], /26 cells/],
    [[first, codeCell(lines(15))]],
    [[first, codeCell(lines(16))], /cell 2: found 16 lines/],
    [[first, codeCell(" ")], /no code/],
    [[first, codeCell('import { a } from "@tokenfilter/tokenfilter/plot";')]],
    [[first, codeCell('import { a } from "../lib/a.ts";')], /"\.\.\/lib\/a\.ts"/],
    [[first, codeCell('const { a } = await import("npm:a");')], /"npm:a"/],
    [[first, codeCell('import "@tokenfilter/tokenfilter/secret";')], /secret/],
  ];
  for (const [given, ...expected] of cases) {
    const found = checkForm(notebookOf(...given));
    assertEquals(found.length, expected.length, found.join());
    expected.forEach((fault, i) => assertMatch(found[i]!, fault));
  }
});

Deno.test("checkOutputs() finds outputs that are lost, empty, unwanted or errors, and figures that are missing", () => {
  const printed: Output = { output_type: "stream", name: "stdout", text: "1\n" };
  const result = (data: Output["data"]): Output => ({ output_type: "execute_result", data: data! });
  const figure = new Figure({ title: "t", caption: "", height: 100, data: [], layout: {} });
  const display =
    (figure as unknown as Record<symbol, () => Record<string, unknown>>)[Symbol.for("Jupyter.display")]!;
  const drawn = result(display.call(figure)),
    map = result({ "text/html": '<div class="tokenfilter-tokens">' });
  const cases: [source: string, outputs: Output[], fault?: string, ...tags: string[]][] = [
    ["console.log(1);", [printed]],
    ["plotX(y);", [drawn]],
    ["plotTokenMap(a);", [map]],
    ["replotted(a); collectRoc(a);", [printed]],
    ["const a = 1;", [], "", "quiet"],
    ["console.log(1);", [], "cell 2: found no output"],
    ["console.log();", [{ ...printed, text: "\n" }], "empty output"],
    ["a;", [result({})], "empty output"],
    ["a;", [result({ "a/b": "" })], "empty output"],
    ["const a = 1;", [printed], "expected none", "quiet"],
    ["a;", [{ output_type: "error", ename: "TypeError", evalue: "no" }], "TypeError: no"],
    ["a;", [printed, { ...printed, name: "stderr", text: "careful\n" }], "careful"],
    ...["plotRoc(a);", "plot.plotRoc(a);", "new Figure({});"].map((source): [string, Output[], string] => [
      source,
      [printed],
      "found no figure",
    ]),
  ];
  for (const [source, outputs, fault = "", ...tags] of cases) {
    const found = checkOutputs(notebookOf(textCell("text"), { ...codeCell(source, ...tags), outputs })).join(
      "; ",
    );
    if (fault === "") assertEquals(found, "", source);
    else assertStringIncludes(found, fault);
  }
  assertEquals(checkSize("a".repeat(499_999)), []);
  assertStringIncludes(checkSize("ä".repeat(250_000)).join(), "500000 bytes");
});

testSlow(
  "checkCells() passes cells that share their names, and names the cell and line of each mistake",
  async () => {
    const made = (name: string, ...code: string[]) => ({
      name,
      notebook: notebookOf(textCell(FIRST), ...code.map((source) => codeCell(source))),
    });
    const found = await checkCells([
      made("01_type", IMPORT, "const size: number = METHOD_NAMES;\nsize;"),
      made("02_lint", "let a = 1;\na;"),
      made("03_form", ""),
      made("04_good", `${IMPORT}\nconst names = METHOD_NAMES;`, "names;"),
    ]);
    const text = found.join("\n");
    assertEquals(text.includes("04_good"), false, text);
    for (
      const place of ["01_type, cell 3, line 1", "02_lint, cell 2, line 1", "03_form: cell 2: found no code"]
    ) {
      assertStringIncludes(text, place);
    }
    // A syntax error, about which the kernel reports little.
    assertStringIncludes(
      (await checkCells([made("05_broken", "const = 1;")])).join(),
      "05_broken, cell 2, line 1",
    );
  },
);

Deno.test("digestCells() follows code alone", async () => {
  const digest = await digestCells(good);
  assertEquals(await digestCells(notebookOf(textCell("other words"), ...good.cells.slice(1))), digest);
  assertNotEquals(await digestCells(notebookOf(...good.cells.slice(0, 2), codeCell("a + 1;"))), digest);
});

Deno.test("formatNotebook() and readNotebook() keep a notebook as it is, and refuse what is none", () =>
  withFolder(async (folder) => {
    const data = { "a/json": { x: [1, 2] }, "text/html": "<p>\n</p>" };
    const outputs: Output[] = [
      { output_type: "stream", name: "stdout", text: "one\ntwo\n" },
      { output_type: "display_data", metadata: {}, data },
    ];
    const notebook: Notebook = notebookOf(textCell(FIRST), {
      ...codeCell("1;"),
      outputs,
      execution_count: 3,
    });
    const path = `${folder}/a.ipynb`, text = formatNotebook(notebook);
    assertStringIncludes(text, '"a/json": {"x":[1,2]}');
    assertStringIncludes(text, '"one\\n",\n');
    await Deno.writeTextFile(path, text);
    assertEquals(formatNotebook(await readNotebook(path)), text);
    for (const wrong of ["null", "{}", '{"cells": [], "nbformat": 3}', "not JSON"]) {
      await Deno.writeTextFile(path, wrong);
      const { message } = await assertRejects(() => readNotebook(path), UsageError, "Cannot read");
      assertEquals(message.includes("\n"), false);
    }
  }));
