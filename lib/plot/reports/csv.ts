/** Records as CSV, for spreadsheets and data frames. */

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

/** Records as CSV: a column per field, in all digits; a list's items are joined by spaces, missing values are empty. */
export function formatCsv(records: readonly object[]): string {
  const rows = records.map((record) => new Map(flatten(record)));
  const columns = [...new Set(rows.flatMap((row) => [...row.keys()]))];
  const cell = (value: unknown) => {
    const isMissing = value === null || value === undefined || Number.isNaN(value);
    const text = isMissing ? "" : Array.isArray(value) ? value.join(" ") : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [columns.map(cell), ...rows.map((row) => columns.map((name) => cell(row.get(name))))]
    .map((cells) => `${cells.join(",")}\n`).join("");
}
