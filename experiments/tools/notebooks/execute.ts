/** Runs a notebook's cells with the Deno kernel of this executable. */
import { TextLineStream } from "@std/streams/text-line-stream";
import type { Jupyter } from "./jupyter.ts";

/** Options of a notebook's run. */
export interface ExecuteOptions {
  readonly jupyter: Jupyter;
  /** Path of the notebook. */
  readonly path: string;
  /** Path for the executed notebook. */
  readonly out: string;
  /** The kernel's working folder. */
  readonly folder: string;
  /** Value of `TOKENFILTER_MODEL` for the notebook. */
  readonly model: string;
  /** Called before each cell, which are counted from 1. */
  readonly onCell?: (cell: number) => void;
}

/** A cell that failed. */
export class CellError extends Error {
  override readonly name = "CellError";
}

/** A line of execute.py: the cell that begins, or the error of a cell or of the kernel. Cells are counted from 0. */
interface Event {
  readonly cell: number | null;
  readonly error?: string;
}

const SCRIPT = decodeURIComponent(new URL("execute.py", import.meta.url).pathname);

/** Executes a notebook. @throws {CellError} If a cell fails; the message names it. */
export async function executeNotebook(options: ExecuteOptions): Promise<void> {
  const { jupyter, path, out, folder, model, onCell } = options;
  const child = new Deno.Command(jupyter.python, {
    args: [SCRIPT, path, out, "--folder", folder, "--deno", Deno.execPath()],
    env: {
      TOKENFILTER_MODEL: model,
      NO_COLOR: "1", // outputs without colours are the same everywhere
      // The user's own packages and settings stay out.
      PYTHONNOUSERSITE: "1",
      JUPYTER_NO_CONFIG: "1",
    },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const stderr = new Response(child.stderr).text();
  let failure: string | undefined;
  const lines = child.stdout.pipeThrough(new TextDecoderStream()).pipeThrough(new TextLineStream());
  for await (const line of lines) {
    const { cell, error }: Event = JSON.parse(line as string);
    if (error !== undefined) failure = `${cell === null ? "kernel" : `cell ${cell + 1}`}: ${error}`;
    else onCell?.(cell! + 1);
  }
  const { success } = await child.status, words = (await stderr).trim();
  if (failure !== undefined) throw new CellError(failure);
  if (!success) throw new Error(`Cannot execute "${path}": ${words.split("\n").at(-1)}`, { cause: words });
}
