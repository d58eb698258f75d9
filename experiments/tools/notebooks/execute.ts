/** Runs a notebook's cells with the Deno kernel of this executable, and converts their outputs. */
import { TextLineStream } from "@std/streams/text-line-stream";
import { run } from "../../../ffi/build/command.ts";
import { UsageError } from "../../../lib/errors.ts";
import type { Jupyter } from "./jupyter.ts";

/** Options of a notebook's run. */
export interface ExecuteOptions {
  readonly jupyter: Jupyter;
  /** Path of the notebook. */
  readonly path: string;
  /** The kernel's working folder. */
  readonly folder: string;
  /** Folder for `1.ipynb`, `2.ipynb`, … */
  readonly out: string;
  /** Runs, each with a fresh kernel. */
  readonly repeat: number;
  /** Value of `TOKENFILTER_MODEL` for the notebook. */
  readonly model: string;
  /** Called after each cell with the finished fraction of all runs. */
  readonly onProgress?: (fraction: number, run: number, cell: number) => void;
  /** Ends the runs. */
  readonly signal?: AbortSignal;
}

/** A cell that failed. */
export class CellError extends Error {
  override readonly name = "CellError";
}

type Event =
  | { readonly event: "cell"; readonly run: number; readonly cell: number; readonly cells: number }
  | { readonly event: "run"; readonly run: number; readonly seconds: number }
  | { readonly event: "error"; readonly run: number; readonly cell: number | null; readonly message: string };

/** Keeps the user's own packages and Jupyter settings out. */
const CLEAN = { PYTHONNOUSERSITE: "1", JUPYTER_NO_CONFIG: "1" };

const script = (name: string) => decodeURIComponent(new URL(name, import.meta.url).pathname);

/**
 * Executes a notebook.
 *
 * @returns Seconds of each run, kernel start included.
 * @throws {CellError} If a cell fails; the message names it.
 */
export async function executeNotebook(options: ExecuteOptions): Promise<number[]> {
  const { jupyter, path, folder, out, repeat, model, onProgress, signal } = options;
  const child = new Deno.Command(jupyter.python, {
    args: [
      ...[script("execute.py"), path, out, "--folder", folder],
      ...["--deno", Deno.execPath(), "--repeat", String(repeat)],
    ],
    // Outputs without colours are the same everywhere.
    env: { NO_COLOR: "1", TOKENFILTER_MODEL: model, ...CLEAN },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
    signal,
  }).spawn();
  const stderr = new Response(child.stderr).text();
  const seconds: number[] = [];
  let failure: string | undefined;
  for await (
    const line of child.stdout.pipeThrough(new TextDecoderStream()).pipeThrough(new TextLineStream())
  ) {
    const event: Event = JSON.parse(line as string);
    if (event.event === "cell") {
      onProgress?.((event.run - 1 + event.cell / event.cells) / repeat, event.run, event.cell + 1);
    } else if (event.event === "run") seconds.push(event.seconds);
    else failure = `${event.cell === null ? "kernel" : `cell ${event.cell + 1}`}: ${event.message}`;
  }
  const { success } = await child.status;
  const words = (await stderr).trim();
  signal?.throwIfAborted();
  if (failure !== undefined) {
    throw new CellError(repeat === 1 ? failure : `run ${seconds.length + 1}, ${failure}`);
  }
  if (!success) throw new Error(`Cannot execute "${path}": ${words.split("\n").at(-1)}`, { cause: words });
  return seconds;
}

/**
 * Converts an executed notebook to a page that needs no network.
 *
 * @param head Path of a file that is inserted unchanged into the page's head.
 * @throws {UsageError} If the page cannot be made.
 */
export async function convertNotebook(
  jupyter: Jupyter,
  path: string,
  page: string,
  head: string,
): Promise<void> {
  const args = [script("convert.py"), path, page, "--head", head];
  const { success, stderr } = await run(jupyter.python, args, { env: CLEAN });
  if (!success) throw new UsageError(`Cannot convert "${path}": ${stderr.trim().split("\n").at(-1)}`);
}
