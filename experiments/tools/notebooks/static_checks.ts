/** Checks of notebooks that run no cell: form, format, types and lint. */
import { run } from "../../../ffi/build/command.ts";
import { checkForm, joinCells, type JoinedCells, type Notebook } from "./notebook.ts";

const CONFIG = new URL("../../../deno.json", import.meta.url).pathname;

/** A notebook and its name without the ending. */
export interface NamedNotebook {
  readonly name: string;
  readonly notebook: Notebook;
}

/**
 * Faults in notebooks before a cell has run, one line or more each. Deno's own tools check the cells joined into a
 * module, since the kernel reports little about a syntax error and nothing about types.
 */
export async function checkNotebooks(notebooks: readonly NamedNotebook[]): Promise<string[]> {
  const problems = notebooks.flatMap(({ name, notebook }) =>
    checkForm(notebook).map((line) => `${name}: ${line}`)
  );
  for (const [i, { cells }] of (await formatCells(notebooks.map(({ notebook }) => notebook))).entries()) {
    for (const [k, { source }] of cells.entries()) {
      if (source === notebooks[i]!.notebook.cells[k]!.source) continue;
      problems.push(
        `${notebooks[i]!.name}: cell ${
          k + 1
        }: found code that is not formatted, expected what --update makes of it`,
      );
    }
  }
  const folder = await Deno.makeTempDir({ prefix: "tokenfilter-notebooks-" });
  try {
    const modules = new Map<string, JoinedCells>();
    for (const { name, notebook } of notebooks) {
      const joined = joinCells(notebook);
      modules.set(name, joined);
      await Deno.writeTextFile(`${folder}/${name}.ts`, joined.text);
    }
    const files = [...modules.keys()].map((name) => `${folder}/${name}.ts`);
    for (const tool of [["check", "--no-lock"], ["lint"]]) {
      const { success, text } = await runDeno([...tool, "--quiet", "--config", CONFIG, ...files]);
      if (!success) problems.push(nameCells(text.trim(), modules));
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
  return problems;
}

/** The same notebooks with their code cells formatted; a cell that cannot be parsed stays as it is. */
export async function formatCells(notebooks: readonly Notebook[]): Promise<Notebook[]> {
  const folder = await Deno.makeTempDir({ prefix: "tokenfilter-notebooks-" });
  const path = (notebook: number, cell: number) => `${folder}/${notebook}_${cell}.ts`;
  const each = async (what: (source: string, path: string) => Promise<string>): Promise<Notebook[]> =>
    await Promise.all(notebooks.map(async (notebook, i) => ({
      ...notebook,
      cells: await Promise.all(
        notebook.cells.map(async (cell, k) =>
          cell.cell_type !== "code" ? cell : { ...cell, source: await what(cell.source, path(i, k)) }
        ),
      ),
    })));
  try {
    await each(async (source, path) => (await Deno.writeTextFile(path, source), source));
    await runDeno(["fmt", "--quiet", "--config", CONFIG, folder]);
    return await each(async (_, path) => (await Deno.readTextFile(path)).replace(/\n$/, ""));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function runDeno(args: readonly string[]): Promise<{ success: boolean; text: string }> {
  const { success, stdout, stderr } = await run(Deno.execPath(), args, { env: { NO_COLOR: "1" } });
  return { success, text: stdout + stderr };
}

/** Replaces lines of the joined modules by cells: `…/01_quickstart.ts:12:5` becomes `01_quickstart, cell 3, line 2`. */
function nameCells(text: string, modules: ReadonlyMap<string, JoinedCells>): string {
  return text.replaceAll(/(?:file:\/\/)?\/\S*\/(\w+)\.ts:(\d+):\d+/g, (all, name, line) => {
    const place = modules.get(name)?.lines[Number(line) - 1];
    return place === undefined ? all : `${name}, cell ${place.cell}, line ${place.line}`;
  });
}
