/** The width of a terminal, texts that fit it, and texts that do nothing to it. */
import { wrapText } from "../../../../lib/plot/figure/layout.ts";

/** Columns if a terminal does not specify it. */
const DEFAULT_COLUMNS = 80;

export function terminalColumns(): number {
  try {
    return Deno.consoleSize().columns || DEFAULT_COLUMNS;
  } catch {
    return DEFAULT_COLUMNS;
  }
}

/** Columns of a line of output: those of the terminal; no limit for a file or a pipe. */
export function lineWidth(stream: { isTerminal(): boolean }): number {
  return stream.isTerminal() ? terminalColumns() : Infinity;
}

/** A text's lines, cut between words where they are longer than the width. */
export function wrapLines(text: string, width: number): string {
  return text.split("\n").flatMap((line) => line.length > width ? wrapText(line, width) : [line]).join("\n");
}

/** The first words of a text that fit the width; empty if not even the first word fits. */
export function fitWords(text: string, width: number): string {
  if (text.length <= width) return text;
  const end = text.lastIndexOf(" ", width - 1);
  return end < 0 ? "" : `${text.slice(0, end).trimEnd()}…`;
}
