import { assertEquals, assertStringIncludes } from "@std/assert";
import { Figure } from "../../../lib/plot/mod.ts";
import type { Output } from "./notebook.ts";
import { checkOutputs, checkSize, drawsFigure } from "./outputs.ts";
import { codeCell, notebookOf, textCell } from "./testing.ts";

const printed: Output = { output_type: "stream", name: "stdout", text: "1\n" };
const figure = new Figure({ title: "t", caption: "", height: 100, data: [], layout: {} });
const drawn: Output = {
  output_type: "execute_result",
  data: (figure as unknown as { [name: symbol]: () => Record<string, unknown> })[
    Symbol.for("Jupyter.display")
  ]!(),
};

/** Faults in one cell that gave these outputs. */
function problems(source: string, outputs: readonly Output[], ...tags: string[]): string {
  return checkOutputs(notebookOf(textCell("text"), { ...codeCell(source, ...tags), outputs })).join("; ");
}

Deno.test("checkOutputs() takes what was printed or drawn", () => {
  assertEquals(problems("console.log(1);", [printed]), "");
  assertEquals(problems("plotX(y);", [drawn]), "");
  assertEquals(problems("const a = 1;", [], "quiet"), "");
});

Deno.test("checkOutputs() finds lost, empty and unwanted outputs", () => {
  assertStringIncludes(problems("console.log(1);", []), "cell 2: found no output");
  assertStringIncludes(problems("console.log();", [{ ...printed, text: "\n" }]), "empty output");
  assertStringIncludes(problems("a;", [{ output_type: "execute_result", data: {} }]), "empty output");
  assertStringIncludes(
    problems("a;", [{ output_type: "execute_result", data: { "a/b": "" } }]),
    "empty output",
  );
  assertStringIncludes(problems("const a = 1;", [printed], "quiet"), "expected none");
});

Deno.test("checkOutputs() finds errors and words on stderr", () => {
  const error: Output = { output_type: "error", ename: "TypeError", evalue: "no" };
  assertStringIncludes(problems("a;", [error]), "TypeError: no");
  assertStringIncludes(
    problems("a;", [printed, { ...printed, name: "stderr", text: "careful\n" }]),
    "careful",
  );
});

Deno.test("checkOutputs() misses a figure that a cell draws", () => {
  for (const source of ["plotRoc(a);", "plot.plotRoc(a);", "new Figure({});"]) {
    assertEquals(drawsFigure(source), true);
    assertStringIncludes(problems(source, [printed]), "found no figure");
  }
  assertEquals(drawsFigure("replotted(a); collectRoc(a);"), false);
  const text: Output = {
    output_type: "execute_result",
    data: { "text/html": '<div class="tokenfilter-tokens">' },
  };
  assertEquals(problems("plotTokenMap(a);", [text]), "");
});

Deno.test("checkSize() counts bytes", () => {
  assertEquals(checkSize("a".repeat(499_999)), []);
  assertStringIncludes(checkSize("ä".repeat(250_000)).join(), "500000 bytes");
});
