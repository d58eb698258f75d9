/** A notebook's file: cells, requirements on them, and the module that they make together. */
import { UsageError } from "../../../lib/errors.ts";
import { sha256 } from "../../../lib/sha256.ts";
import { readJson } from "../../commands/cli/files.ts";

/** One output of a code cell; keys as in the file. */
export interface Output {
  readonly output_type: "stream" | "display_data" | "execute_result" | "error";
  /** stream: `stdout` or `stderr`. */
  readonly name?: string;
  /** stream: the printed text. */
  readonly text?: string | readonly string[];
  /** The value by MIME type: text is a string or its lines. */
  readonly data?: { readonly [mime: string]: unknown };
  readonly [key: string]: unknown;
}

/** One cell. */
export interface Cell {
  readonly cell_type: "code" | "markdown" | "raw";
  readonly id: string;
  readonly metadata: { readonly tags?: readonly string[] };
  /** Text, as one string here. */
  readonly source: string;
  readonly outputs?: readonly Output[];
  readonly execution_count?: number | null;
}

/** A notebook. */
export interface Notebook {
  readonly cells: readonly Cell[];
  readonly metadata: { readonly [key: string]: unknown };
  readonly nbformat: number;
  readonly nbformat_minor: number;
}

/** Most cells of a notebook, lines of a cell, and bytes of a file with its outputs. */
export const LIMITS = { cells: 25, lines: 15, bytes: 500_000 } as const;

/** Tag of a code cell that gives no output. */
export const QUIET = "quiet";

/** Modules that notebooks may import: only those that readers have too. */
const { name, exports } = JSON.parse(await Deno.readTextFile(new URL("../../../deno.json", import.meta.url)));
const PUBLIC = Object.keys(exports).map((entry) => name + entry.slice(1));

/** Text that a file holds as one string or as lines. */
export function joinText(text: unknown): string {
  return Array.isArray(text) ? text.join("") : String(text ?? "");
}

/** Reads a notebook. @throws {UsageError} If the file is none. */
export async function readNotebook(path: string): Promise<Notebook> {
  const value = await readJson(path) as Notebook | null;
  if (!Array.isArray(value?.cells) || value.nbformat !== 4) {
    throw new UsageError(`Cannot read "${path}": expected a notebook of format 4`);
  }
  return { ...value, cells: value.cells.map((cell) => ({ ...cell, source: joinText(cell.source) })) };
}

/** A notebook as the text of its file: texts as lines, so that changes can be read; JSON of figures without spaces. */
export function formatNotebook(notebook: Notebook): string {
  const compact: string[] = [];
  const formatOutput = (output: Output): Output => {
    if (output.text !== undefined) return { ...output, text: linesOf(joinText(output.text)) };
    if (output.data === undefined) return output;
    const data = Object.entries(output.data).map(([mime, value]) => {
      if (typeof value === "string" || Array.isArray(value)) return [mime, linesOf(joinText(value))];
      return [mime, `${MARK}${compact.push(JSON.stringify(value)) - 1}`];
    });
    return { ...output, data: Object.fromEntries(data) };
  };
  const cells = notebook.cells.map(({ cell_type, id, metadata, source, ...rest }) => {
    const common = { cell_type, id, metadata, source: linesOf(source) };
    if (cell_type !== "code") return common;
    return {
      ...common,
      execution_count: rest.execution_count ?? null,
      outputs: (rest.outputs ?? []).map(formatOutput),
    };
  });
  const text = JSON.stringify({ ...notebook, cells }, null, 1) + "\n";
  return text.replaceAll(new RegExp(`"${MARK}(\\d+)"`, "g"), (_, index) => compact[Number(index)]!);
}

/** Stands for a value of JSON while the rest is written with spaces. */
const MARK = "tokenfilter-compact-";

function linesOf(text: string): string[] {
  return text === "" ? [] : text.split(/(?<=\n)/);
}

/** Faults in a notebook's form, one line each; empty if there are none. */
export function checkForm({ cells }: Notebook): string[] {
  const problems: string[] = [];
  const first = cells[0];
  for (const word of ["Question", "Inputs", "Run time"]) {
    if (first?.cell_type === "markdown" && first.source.includes(`**${word}`)) continue;
    problems.push(`cell 1: found no **${word}**, expected words that say it`);
  }
  if (cells.length > LIMITS.cells) {
    problems.push(`found ${cells.length} cells, expected at most ${LIMITS.cells}`);
  }
  for (const [i, { cell_type, source }] of cells.entries()) {
    const count = source.split("\n").length;
    if (count > LIMITS.lines) {
      problems.push(`cell ${i + 1}: found ${count} lines, expected at most ${LIMITS.lines}`);
    }
    if (cell_type !== "code") continue;
    if (source.trim() === "") problems.push(`cell ${i + 1}: found no code`);
    for (const [, specifier] of source.matchAll(/\b(?:from|import)\s*\(?\s*"([^"]+)"/g)) {
      if (PUBLIC.includes(specifier!)) continue;
      problems.push(`cell ${i + 1}: found import of "${specifier}", expected what the package exports`);
    }
  }
  return problems;
}

/** Digest of the sources of a notebook's code cells, which determine its outputs. */
export async function digestCells({ cells }: Notebook): Promise<string> {
  const code = cells.filter(({ cell_type }) => cell_type === "code").map(({ source }) => `${source}\n`);
  return (await sha256(code.join(""))).slice(0, 16);
}
