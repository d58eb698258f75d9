/** Checks of notebooks that run no cell: form, types and lint. `deno fmt` formats notebooks by itself. */
import { fileURLToPath } from "node:url";
import { run } from "../../../ffi/build/command.ts";
import { checkForm, type Notebook } from "./notebook.ts";

const CONFIG = fileURLToPath(new URL("../../../deno.json", import.meta.url));

/**
 * Faults in notebooks before a cell has run, one line or more each. Deno's own tools check the cells joined into a
 * module, since the kernel reports little about a syntax error and nothing about types.
 */
export async function checkCells(
  notebooks: readonly { readonly name: string; readonly notebook: Notebook }[],
): Promise<string[]> {
  const problems = notebooks.flatMap(({ name, notebook }) =>
    checkForm(notebook).map((line) => `${name}: ${line}`)
  );
  const folder = await Deno.makeTempDir({ prefix: "tokenfilter-notebooks-" });
  try {
    /** Per notebook: the cell and line of each line of its module. */
    const places = new Map<string, string[]>(), files: string[] = [];
    for (const { name, notebook } of notebooks) {
      const lines = notebook.cells.flatMap(({ cell_type, source }, cell) =>
        cell_type !== "code"
          ? []
          : source.split("\n").map((text, i) => ({ text, cell: cell + 1, line: i + 1 }))
      );
      places.set(name, lines.map(({ cell, line }) => `${name}, cell ${cell}, line ${line}`));
      files.push(`${folder}/${name}.ts`);
      await Deno.writeTextFile(files.at(-1)!, `${lines.map(({ text }) => text).join("\n")}\n`);
    }
    for (const tool of [["check", "--no-lock"], ["lint"]]) {
      const args = [...tool, "--quiet", "--config", CONFIG, ...files];
      const { success, stdout, stderr } = await run(Deno.execPath(), args, { env: { NO_COLOR: "1" } });
      if (success) continue;
      // `…/01_quickstart.ts:12:5` becomes `01_quickstart, cell 3, line 2`.
      const place = /(?:file:\/\/)?\/\S*\/(\w+)\.ts:(\d+):\d+/g;
      problems.push(
        (stdout + stderr).trim().replaceAll(place, (all, name, line) => places.get(name)?.[line - 1] ?? all),
      );
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
  return problems;
}
