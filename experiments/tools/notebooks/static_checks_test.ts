import { assertEquals, assertStringIncludes } from "@std/assert";
import { testSlow } from "../../../lib/testing.ts";
import { checkCells } from "./static_checks.ts";
import { codeCell, notebookOf, textCell } from "./testing.ts";

const first = textCell("**Question.** ?\n**Inputs.** -\n**Run time.** 1 s");
const IMPORT = 'import { METHOD_NAMES } from "@tokenfilter/tokenfilter";';

testSlow(
  "checkCells() passes cells that share their names, and names the cell and line of each mistake",
  async () => {
    const notebook = (...code: string[]) => notebookOf(first, ...code.map((source) => codeCell(source)));
    const found = await checkCells([
      { name: "01_type", notebook: notebook(IMPORT, "const size: number = METHOD_NAMES;\nsize;") },
      { name: "02_lint", notebook: notebook("let a = 1;\na;") },
      { name: "03_form", notebook: notebook("") },
      {
        name: "04_good",
        notebook: notebookOf(
          first,
          codeCell(`${IMPORT}\nconst names = METHOD_NAMES;`, "quiet"),
          codeCell("names;"),
        ),
      },
    ]);
    assertEquals(found.filter((line) => line.includes("04_good")), []);
    const text = found.join("\n");
    assertStringIncludes(text, "01_type, cell 3, line 1");
    assertStringIncludes(text, "02_lint, cell 2, line 1");
    assertStringIncludes(text, "prefer-const");
    assertStringIncludes(text, "03_form: cell 2: found no code");
    assertEquals(/\/tmp|file:/.test(text.replaceAll(/file:\S*\/lib\/\S*/g, "")), false, text);
  },
);

Deno.test("checkCells() says what a syntax error is, which the kernel does not", async () => {
  const found = await checkCells([{
    name: "01_broken",
    notebook: notebookOf(first, codeCell("const = 1;")),
  }]);
  assertStringIncludes(found.join("\n"), "01_broken, cell 2, line 1");
});
