/** Runs a notebook's cells with the Deno kernel of this executable. */
import { fileURLToPath } from "node:url";
import { TextLineStream } from "@std/streams/text-line-stream";
import { type Jupyter, variablesOf } from "./jupyter.ts";

/** Options of a notebook's run. */
export interface ExecuteOptions {
  readonly jupyter: Jupyter;
  /** Path of the notebook, in whose folder the kernel works. */
  readonly path: string;
  /** Path for the executed notebook. */
  readonly out: string;
  /** Value of `TOKENFILTER_MODEL` for the notebook. */
  readonly model: string;
  /** Called before each cell, which are counted from 1. */
  readonly onCell?: (cell: number) => void;
}

const SCRIPT = fileURLToPath(new URL("execute.py", import.meta.url));

/** Executes a notebook. @returns The failure of a cell or of the kernel, which names it; undefined where all ran. */
export async function executeNotebook(options: ExecuteOptions): Promise<string | undefined> {
  const { jupyter, path, out, model, onCell } = options, folder = path.replace(/[^/]*$/, "");
  const child = new Deno.Command(jupyter.python, {
    args: [SCRIPT, path, out, "--folder", folder, "--deno", Deno.execPath()],
    env: { ...variablesOf(jupyter.folder), TOKENFILTER_MODEL: model, NO_COLOR: "1" }, // the same everywhere
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const stderr = new Response(child.stderr).text();
  let failure: string | undefined;
  for await (
    const line of child.stdout.pipeThrough(new TextDecoderStream()).pipeThrough(new TextLineStream())
  ) {
    // Cells are counted from 0; null: the kernel.
    const { cell, error }: { cell: number | null; error?: string } = JSON.parse(line as string);
    if (error !== undefined) failure = `${cell === null ? "kernel" : `cell ${cell + 1}`}: ${error}`;
    else onCell?.(cell! + 1);
  }
  const { success } = await child.status, words = (await stderr).trim();
  if (failure !== undefined || success) return failure;
  throw new Error(`Cannot execute "${path}": ${words.split("\n").at(-1)}`, { cause: words });
}
