/** Records as CSV, for spreadsheets and data frames. */
import { escapeControls } from "../printable.ts";

/** A record's field that grows with the text: neither a table nor a page needs it, and the file next to them has it. */
const LONG = "lossBlocks";

/** A result as JSON that a page can hold. @param indent spaces a level */
export function formatShort(result: object, indent?: number): string {
  return JSON.stringify(result, (name, value) => name === LONG ? undefined : value, indent);
}

/** The columns of a record: those of an object in it are named `outer.inner`. */
function flatten(record: object, prefix = ""): [string, unknown][] {
  return Object.entries(record).filter(([name]) => name !== LONG).flatMap((
    [name, value],
  ): [string, unknown][] =>
    typeof value === "object" && value !== null && !Array.isArray(value)
      ? flatten(value, `${prefix}${name}.`)
      : [[prefix + name, value]]
  );
}

/** The beginning of a cell that a spreadsheet takes for a formula, which may run programs; and numbers, which are none. */
const FORMULA = /^[=+\-@\t\r]/, NUMBER = /^[-+]?[\d.]+(e[-+]?\d+)?%?( ±[\d.]+)?( \[[-+\d., ]*\])?$/;

/** A cell. A text that a spreadsheet would take for a formula begins with an apostrophe, which marks it as text there. */
function formatCell(value: unknown): string {
  if (value === null || value === undefined || Number.isNaN(value)) return "";
  const isText = [value].flat().some((part) => typeof part === "string");
  const plain = Array.isArray(value) ? value.join(" ") : String(value);
  const text = escapeControls(isText && FORMULA.test(plain) && !NUMBER.test(plain) ? `'${plain}` : plain);
  return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** Records as CSV: a column per field, in all digits; a list's items are joined by spaces, missing values are empty. */
export function formatCsv(records: readonly object[]): string {
  const rows = records.map((record) => new Map(flatten(record)));
  const columns = [...new Set(rows.flatMap((row) => [...row.keys()]))];
  return [columns.map(formatCell), ...rows.map((row) => columns.map((name) => formatCell(row.get(name))))]
    .map((cells) => `${cells.join(",")}\n`).join("");
}
