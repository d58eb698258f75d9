/** Notebooks for tests. */
import type { Cell, Notebook } from "./notebook.ts";

let cells = 0;

/** A cell of text. */
export function textCell(source: string): Cell {
  return { cell_type: "markdown", id: `c${cells++}`, metadata: {}, source };
}

/** A cell of code that was not run. */
export function codeCell(source: string, ...tags: string[]): Cell {
  const metadata = tags.length === 0 ? {} : { tags };
  return { cell_type: "code", id: `c${cells++}`, metadata, source, outputs: [], execution_count: null };
}

/** A notebook of these cells. */
export function notebookOf(...cells: Cell[]): Notebook {
  const kernelspec = { display_name: "Deno", language: "typescript", name: "deno" };
  return { cells, metadata: { kernelspec }, nbformat: 4, nbformat_minor: 5 };
}
