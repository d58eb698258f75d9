/** Tables of Markdown. */

const makeRow = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;

/** A table with a line per row. */
export const makeTable = (columns: readonly string[], rows: readonly (readonly string[])[]) =>
  [columns, columns.map(() => "---"), ...rows].map(makeRow).join("\n");

/** A text as a cell. */
export const escapeCell = (text: string) =>
  text.replaceAll("|", "\\|").replaceAll("\n", "<br>").replaceAll("  ", "");
