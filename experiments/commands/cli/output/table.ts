/** A table on stdout: as wide as the terminal, or for a paper; and records as CSV. */
import { UsageError } from "../../../../lib/errors.ts";
import type { TextTable } from "../../../../lib/plot/figure/page.ts";
import { formatCsv } from "../../../../lib/plot/csv.ts";
import { escapeLine } from "../../../../lib/printable.ts";
import { expectWritableFile, writeWhole } from "../files.ts";
import { type FlagValues, textOf } from "../flags/parse.ts";
import { writeLine } from "../task.ts";
import { lineWidth, wrapLines } from "./terminal.ts";

/** The parts of a table that {@linkcode formatTable} needs. */
export type PlainTable = Pick<TextTable, "columns" | "rows" | "left"> & Partial<Pick<TextTable, "hints">>;

const GAP = "  ";

/**
 * Lays a table out with two spaces between columns: text to the left, numbers to the right.
 *
 * @param width A wider table is split into parts below each other. Each part repeats the columns that name its rows:
 * those up to the first that contains text, else the first.
 */
export function formatTable(table: PlainTable, width = Infinity): string {
  const { columns, rows, left } = escapeCells(table);
  const widths = measureColumns({ columns, rows, left });
  const line = (cells: readonly string[], part: readonly number[]) =>
    part.map((i) => left[i] ? cells[i]!.padEnd(widths[i]!) : cells[i]!.padStart(widths[i]!)).join(GAP)
      .trimEnd();
  const show = (part: readonly number[]) =>
    [
      line(columns, part),
      part.map((i) => "-".repeat(widths[i]!)).join(GAP),
      ...rows.map((cells) => line(cells, part)),
    ].join("\n");
  const all = columns.map((_, i) => i), named = all.slice(0, left.indexOf(true) + 1 || 1);
  const total = (part: readonly number[]) => sumWidths(part.map((i) => widths[i]!));
  const parts: number[][] = [[...named]];
  for (const i of all.slice(named.length)) {
    const part = parts.at(-1)!;
    if (part.length > named.length && total([...part, i]) > width) parts.push([...named, i]);
    else part.push(i);
  }
  return parts.map(show).join("\n\n");
}

/** A table in whose cells nothing moves a cursor or begins a line: names in it may be of strangers. */
const escapeCells = ({ columns, rows, left }: PlainTable) => ({
  ...{ columns: columns.map(escapeLine), rows: rows.map((row) => row.map(escapeLine)), left },
});

const measureColumns = ({ columns, rows }: PlainTable) =>
  columns.map((name, i) => rows.reduce((most, row) => Math.max(most, row[i]!.length), name.length));

const sumWidths = (widths: readonly number[]) =>
  widths.reduce((sum, width) => sum + width, GAP.length * (widths.length - 1));

/** The meaning of each of a table's columns as a line, where it has them. */
export const listLegend = ({ columns, hints }: PlainTable): string[] =>
  hints === undefined ? [] : columns.map((name, i) => `${name}: ${hints[i]}`);

/** A table of some of its columns, in the order of the names. */
export function selectColumns(table: PlainTable, names: readonly string[]): PlainTable {
  const places = names.map((name) => table.columns.indexOf(name)).filter((i) => i >= 0);
  const pick = <T>(list: readonly T[]) => places.map((i) => list[i]!);
  return {
    columns: pick(table.columns),
    rows: table.rows.map(pick),
    left: places.map((i) => table.left[i] === true),
    ...(table.hints && { hints: pick(table.hints) }),
  };
}

/** Leaves columns out, in the order of `spare`, until a table fits the width or none of them is left. */
export function fitColumns(table: PlainTable, width: number, spare: readonly string[]): PlainTable {
  let fitted = table;
  for (const name of spare) {
    if (sumWidths(measureColumns(fitted)) <= width) break;
    fitted = selectColumns(fitted, fitted.columns.filter((column) => column !== name));
  }
  return fitted;
}

export function formatMarkdown(table: PlainTable): string {
  const { columns, rows, left } = escapeCells(table);
  const line = (cells: readonly string[]) => `| ${cells.map((c) => c.replaceAll("|", "\\|")).join(" | ")} |`;
  return [line(columns), line(columns.map((_, i) => left[i] ? "---" : "---:")), ...rows.map(line)].join("\n");
}

const LATEX: { readonly [char: string]: string } = {
  "\\": "\\textbackslash{}",
  "^": "\\textasciicircum{}",
  "~": "\\textasciitilde{}",
};

/** LaTeX for signs, used between dollars. */
const MARKS: { readonly [sign: string]: string } = {
  "±": "\\pm",
  "†": "^\\dagger",
  "‡": "^\\ddagger",
  "<": "<",
};

/** A table in LaTeX, with the rules of the package booktabs; text between two stars, as in Markdown, is bold. */
export function formatLatex(table: PlainTable): string {
  const { columns, rows, left } = escapeCells(table);
  const escape = (cell: string) =>
    cell.replaceAll(/[\\^~&%$#_{}]/g, (char) => LATEX[char] ?? `\\${char}`)
      .replaceAll(/(^|[ ([])-(?=[\d.])/g, "$1$-$")
      .replaceAll(/[±†‡<]/g, (mark) => `$${MARKS[mark]}$`)
      .replace(/^\*\*(.*)\*\*$/, "\\textbf{$1}");
  const line = (cells: readonly string[]) => `${cells.map(escape).join(" & ")} \\\\`;
  return [
    `\\begin{tabular}{${columns.map((_, i) => left[i] ? "l" : "r").join("")}}`,
    "\\toprule",
    line(columns),
    "\\midrule",
    ...rows.map(line),
    "\\bottomrule",
    "\\end{tabular}",
  ].join("\n");
}

/** How a table was asked for. */
export interface TableRequest {
  readonly columns: readonly string[] | undefined;
  readonly format: "text" | "markdown" | "latex" | "json";
  readonly csv: string | undefined;
}

const plain = (name: string) => name.toLowerCase().replaceAll(" ", "-");

/**
 * Reads the flags of a table.
 *
 * @param known Names of all columns that it may have.
 * @throws {UsageError} If a column is none of them, two formats are asked for, or the CSV file cannot be written.
 */
export function readTable(values: FlagValues, known: readonly string[]): TableRequest {
  const formats = (["json", "markdown", "latex"] as const).filter((name) => values.has(name));
  if (formats.length > 1) {
    throw new UsageError(`Cannot use --${formats[0]} with --${formats[1]}: expected one of them`);
  }
  const csv = textOf(values, "csv");
  if (csv !== undefined) expectWritableFile(csv);
  const asked = textOf(values, "columns")?.split(",").map((name) => plain(name.trim()));
  const columns = asked?.flatMap((name) => {
    const column = known.find((column) => plain(column) === name);
    if (column === undefined && name !== "all") {
      throw new UsageError(
        `Cannot use --columns ${name}: expected all, or some of ${known.map(plain).join(", ")}`,
      );
    }
    return column === undefined ? known : [column];
  });
  return { columns: columns && [...new Set(columns)], format: formats[0] ?? "text", csv };
}

/** The text around a table on stdout. */
export interface TableContext {
  /** Columns that are left out where the terminal is narrow, the first one first. */
  readonly spare?: readonly string[];
  /** The result as JSON. */
  readonly json: () => string;
  /** The records for CSV, in full. */
  readonly records: readonly object[];
  /** The table in Markdown and LaTeX, where columns were not asked for; default: the same. */
  readonly paper?: PlainTable;
  /** Conclusions from the result, as lines right below the table. */
  readonly verdict?: readonly string[];
  /** Lines below the table. */
  readonly notes: readonly string[];
}

/** Writes a result to stdout as it was asked for, and its records to a CSV file. */
export async function printTable(
  table: PlainTable,
  { columns, format, csv }: TableRequest,
  { spare = [], json, records, paper = table, verdict = [], notes }: TableContext,
  stream: typeof Deno.stdout = Deno.stdout,
): Promise<void> {
  if (csv !== undefined) await writeWhole(csv, formatCsv(records));
  const chosen = columns === undefined ? table : selectColumns(table, columns);
  if (format !== "text") {
    const printed = columns === undefined ? paper : chosen;
    const write = {
      json,
      markdown: () => formatMarkdown(printed),
      latex: () => formatLatex(printed),
    }[format];
    writeLine(stream, write());
    return;
  }
  const width = lineWidth(stream);
  const shown = columns === undefined ? fitColumns(chosen, width, spare) : chosen;
  const hidden = chosen.columns.filter((name) => !shown.columns.includes(name));
  const rest = hidden.length === 0
    ? []
    : [`Left out at ${width} columns: ${hidden.join(", ")} (--columns all, --csv FILE).`];
  writeLine(
    stream,
    [
      ...[formatTable(shown, width), ""],
      ...(verdict.length === 0 ? [] : [...verdict.map((line) => wrapLines(line, width)), ""]),
      ...[...listLegend(shown), ...rest, ...notes].map((note) => wrapLines(note, width)),
    ].join("\n"),
  );
}
