/** A table as aligned text. */
import type { TrialTable } from "../../lib/plot/mod.ts";

/** What {@linkcode formatTable} needs of a table. */
export type PlainTable = Pick<TrialTable, "columns" | "rows" | "left">;

/** Lays a table out with two spaces between columns: text to the left, numbers to the right. */
export function formatTable({ columns, rows, left }: PlainTable): string {
  const widths = columns.map((name, i) => Math.max(name.length, ...rows.map((row) => row[i]!.length)));
  const line = (cells: readonly string[]) =>
    cells.map((cell, i) => left[i] ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!)).join("  ")
      .trimEnd();
  return [line(columns), widths.map((width) => "-".repeat(width)).join("  "), ...rows.map(line)].join("\n");
}
