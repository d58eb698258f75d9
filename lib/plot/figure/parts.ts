/** Pieces of layouts and traces that several plots share, and the chart that they make. */
import { axis, baseLayout, Figure, type Json, type JsonObject } from "./figure.ts";

/** The hint where no trial of a sweep decided a token. */
export const NO_DECISION = "No trial here decided a token: give the sweep more --tokens than its --warmup";

/** The hint where no layer has tokens of both classes, so that no rule can be ranked. @param what Its first words */
export function missingClasses(what: string): string {
  return `${what}: no layer has both redundant and needed tokens past the warm-up. Take a longer text, or a ratio above 0.`;
}

/** The hint where no token has the numbers of a plot. */
export function missingTokens(what: "a score" | "similarities"): string {
  return `No token has ${what}: a sequence's first token has none. Score a longer text.`;
}

/** Five colours of a theme, evenly spaced. */
export function colorScale(name: "heat" | "diverge"): Json {
  return [0, 1, 2, 3, 4].map((i) => [i / 4, `@${name}${i}`]);
}

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

/** Numbers to `digits` significant digits, for figures: a page need not carry more than a reader can see. */
export function shorten(values: readonly (number | null)[], digits = 4): (number | null)[] {
  return values.map((x) => x === null ? null : Number(x.toPrecision(digits)));
}

/** A trace of a chart; attributes without a name here are plotly's own. */
interface TraceParts {
  readonly x: readonly Json[];
  readonly y: readonly Json[];
  /** How points are joined; they are not where it is left out. */
  readonly line?: JsonObject;
  /** How points are marked; they are not where it is left out. */
  readonly marker?: JsonObject;
  /** Text of the box next to each point, or plotly's template for all; left out: there is no box. */
  readonly hover?: readonly string[] | string;
  readonly [attribute: string]: Json | undefined;
}

/** A trace of points, of a line, or of both. */
export function trace({ x, y, line, marker, hover, ...more }: TraceParts): JsonObject {
  const box: JsonObject = hover === undefined
    ? { hoverinfo: "skip" }
    : typeof hover === "string"
    ? { hovertemplate: `${hover}<extra></extra>` }
    : { text: hover, hovertemplate: "%{text}<extra></extra>" };
  const looks: JsonObject = { ...(line && { line }), ...(marker && { marker }) };
  const mode = [line && "lines", marker && "markers"].filter((part) => part !== undefined).join("+");
  return { type: "scatter", mode, x, y, ...looks, ...box, ...more as JsonObject };
}

/** A mark with an edge of its own colour, which open symbols are drawn with. */
export function markOf(color: Json, symbol: Json, size: number, width = 2): JsonObject {
  return { color, symbol, size, line: { color, width } };
}

export function decisionMark(keep: boolean, size: number): JsonObject {
  return keep ? markOf("@series0", "circle-open", size, 1.5) : { color: "@series1", symbol: "x", size };
}

/** Numbers above 0 that lie further apart than by this factor are drawn on a log scale. */
export const WIDE = 8;

/** Whether numbers need a log scale: all above 0, and far apart. */
export function isWide(values: readonly number[]): boolean {
  const low = Math.min(...values);
  return low > 0 && Math.max(...values) > WIDE * low;
}

/** Whiskers from values to the ends of their intervals; none where an end is null. */
export function whiskers(
  values: readonly (number | null)[],
  { low, high }: Band,
  more: JsonObject,
): JsonObject {
  const reach = (ends: Band["low"], sign: number) =>
    shorten(values.map((value, i) => value === null || ends[i] == null ? null : sign * (ends[i] - value)));
  return { type: "data", symmetric: false, array: reach(high, 1), arrayminus: reach(low, -1), ...more };
}

/** Ends of intervals; null where there is none. */
export interface Band {
  readonly low: readonly (number | null)[];
  readonly high: readonly (number | null)[];
}

/** The ground between two curves: two traces, to be drawn behind the curve that they belong to. */
export function bandTraces(
  x: readonly number[],
  { low, high }: Band,
  fillcolor: string,
  more: JsonObject = {},
): JsonObject[] {
  const edge = { x, line: { width: 0 }, showlegend: false, ...more };
  return [trace({ ...edge, y: high }), trace({ ...edge, y: low, fill: "tonexty", fillcolor })];
}

/** The parts of a chart: words, traces, axes, and the rest of its layout. */
interface ChartParts {
  readonly title: string;
  readonly caption: string;
  readonly height: number;
  readonly data: readonly JsonObject[];
  readonly xaxis: Json;
  readonly yaxis: Json;
  readonly [attribute: string]: Json;
}

export function chart({ title, caption, height, data, ...layout }: ChartParts): Figure {
  return new Figure({ title, caption, height, data, layout: baseLayout({ legend: LEGEND, ...layout }) });
}

interface IntervalRow {
  readonly name: string;
  readonly interval: { readonly estimate: number; readonly low: number; readonly high: number };
  readonly hover: string;
  readonly marker: { readonly color: string; readonly symbol?: string };
}

/**
 * A chart of intervals, one a row with its name on the left, and a line at 0.
 *
 * @param places Places of the rows, ascending from 0. Default: 0, 1, 2, …
 */
export function chartIntervals(
  words: Pick<ChartParts, "title" | "caption" | "xaxis">,
  rows: readonly IntervalRow[],
  places: readonly number[] = rows.map((_, row) => row),
): Figure {
  const values = rows.map(({ interval }) => interval.estimate), last = places.at(-1)!;
  const band = {
    low: rows.map(({ interval }) => interval.low),
    high: rows.map(({ interval }) => interval.high),
  };
  const colors = rows.map(({ marker }) => marker.color);
  return chart({
    ...words,
    height: 120 + 26 * (last + 1),
    data: [trace({
      x: shorten(values),
      y: places,
      error_x: whiskers(values, band, { thickness: 1.6, width: 5, color: "@muted" }),
      hover: rows.map(({ hover }) => hover),
      marker: markOf(colors, rows.map(({ marker }) => marker.symbol ?? "circle"), 9),
    })],
    yaxis: rowAxis(rows.map(({ name }) => name), { title: { text: "" }, range: [last + 0.6, -0.6] }, places),
    showlegend: false,
    shapes: [dashedLine("x", 0)],
  });
}

/** More layers than this do not get a tick each. */
const MAX_LAYER_TICKS = 12;

/** A horizontal axis with a tick at every layer, or at some where there are many. */
export function layerAxis(layers: readonly number[], more: JsonObject = {}): Json {
  const span = layers.length === 0 ? 0 : layers.at(-1)! - layers[0]!;
  return axis("", {
    title: { text: "layer" },
    showgrid: false,
    tickformat: "d",
    dtick: span < MAX_LAYER_TICKS ? 1 : 5,
    ...more,
  });
}
