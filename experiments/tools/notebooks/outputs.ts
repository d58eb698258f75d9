/** Required outputs of an executed notebook. */
import { type Cell, joinText, LIMITS, type Notebook, type Output, QUIET } from "./notebook.ts";

/** MIME type of plotly's JSON. */
export const PLOTLY_MIME = "application/vnd.plotly.v1+json";

/** Whether an output is a figure, or a text shown as one. */
function isFigure({ data }: Output): boolean {
  return data !== undefined &&
    (PLOTLY_MIME in data || joinText(data["text/html"]).includes('class="tokenfilter-'));
}

/** Whether a code cell draws: then a figure must be among its outputs. */
function drawsFigure(source: string): boolean {
  return /\b(plot[A-Z]\w*|new Figure)\(/.test(source);
}

/** Faults in the outputs, one line each; empty if there are none. */
export function checkOutputs({ cells }: Notebook): string[] {
  return cells.flatMap((cell, i) =>
    cell.cell_type === "code" ? checkCell(cell).map((problem) => `cell ${i + 1}: ${problem}`) : []
  );
}

function checkCell({ source, metadata, outputs = [] }: Cell): string[] {
  const problems: string[] = [];
  for (const output of outputs) {
    if (output.output_type === "error") problems.push(`found an error: ${output.ename}: ${output.evalue}`);
    if (output.name === "stderr") {
      problems.push(`found words on stderr: ${joinText(output.text).trim().split("\n")[0]}`);
    }
  }
  const filled = outputs.filter(isFilled).length;
  const quiet = metadata.tags?.includes(QUIET) ?? false;
  if (quiet && filled > 0) problems.push(`found an output, expected none of a cell with the tag "${QUIET}"`);
  if (!quiet && filled === 0) problems.push("found no output, expected one");
  if (filled < outputs.length) problems.push("found an empty output");
  if (drawsFigure(source) && !outputs.some(isFigure)) {
    problems.push("found no figure, expected the one that the cell draws");
  }
  return problems;
}

function isFilled({ output_type, text, data }: Output): boolean {
  if (output_type === "stream") return joinText(text).trim() !== "";
  if (output_type === "error") return true;
  return Object.values(data ?? {}).some((value) =>
    typeof value === "string" || Array.isArray(value) ? joinText(value).trim() !== "" : value !== null
  );
}

/** The fault in the size of a notebook's file. */
export function checkSize(text: string): string[] {
  const bytes = new TextEncoder().encode(text).length;
  if (bytes < LIMITS.bytes) return [];
  return [`found a file of ${bytes} bytes with its outputs, expected less than ${LIMITS.bytes}`];
}
