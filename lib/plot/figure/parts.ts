/** Pieces of layouts and traces that several plots share. */
import { axis, type Json, type JsonObject } from "./figure.ts";

/** What is missing where no token has the numbers of a plot. */
export function missingTokens(what: "a score" | "similarities"): string {
  return `No token has ${what}: a sequence's first token has none. Score a longer text.`;
}

/** Five colours of a theme, evenly spaced. */
export function colorScale(name: "heat" | "diverge"): Json {
  return [0, 1, 2, 3, 4].map((i) => [i / 4, `@${name}${i}`]);
}

/** A scale of colours above the axes. */
export function scaleAbove(more: JsonObject = {}): JsonObject {
  return {
    orientation: "h",
    y: 1,
    yanchor: "bottom",
    thickness: 8,
    outlinewidth: 0,
    ...more,
    tickfont: { size: 11 },
  };
}

/** A legend below the axes. */
export const LEGEND: JsonObject = { orientation: "h", x: 0, y: -0.2, yanchor: "top", font: { size: 12 } };

/** A vertical axis with a name a row. @param at places of the rows; default 0, 1, 2, … */
export function rowAxis(
  names: readonly string[],
  more: JsonObject,
  at: readonly number[] = names.map((_, row) => row),
): Json {
  const ticks = { tickmode: "array", tickvals: at, ticktext: [...names], tickfont: { size: 11 } };
  return axis("", { showgrid: false, ...more, ...ticks });
}

/** A dashed line across the axes behind the data, where an axis has a value. */
export function dashedLine(which: "x" | "y", value: number, color = "@ink"): JsonObject {
  const place: JsonObject = which === "y"
    ? { xref: "paper", x0: 0, x1: 1, y0: value, y1: value }
    : { yref: "paper", x0: value, x1: value, y0: 0, y1: 1 };
  return { type: "line", layer: "below", ...place, line: { color, width: 1, dash: "dash" } };
}

/** The ground between two curves: two traces, to be drawn behind the curve that they belong to. */
export function bandTraces(
  x: readonly number[],
  { low, high }: { readonly low: readonly (number | null)[]; readonly high: readonly (number | null)[] },
  fillcolor: string,
  more: JsonObject = {},
): JsonObject[] {
  const edge: JsonObject = {
    type: "scatter",
    mode: "lines",
    x,
    line: { width: 0 },
    hoverinfo: "skip",
    showlegend: false,
    ...more,
  };
  return [{ ...edge, y: high }, { ...edge, y: low, fill: "tonexty", fillcolor }];
}
