/** Names at the ends of curves, instead of a legend. */
import { escapeText, type JsonObject } from "../figure/figure.ts";

export interface CurveEnd {
  readonly name: string;
  readonly color: string;
  /** Where it ends, in the axes' units. */
  readonly x: number;
  readonly y: number;
}

/** Pixels from the middle of a name to that of the next. */
const LINE_PIXELS = 15;
/** Pixels a character, at most, in the labels' size. */
const CHARACTER_PIXELS = 7;
const MARGIN = { top: 20, bottom: 52 };
/** The range of an axis exceeds its values by this fraction of them on each side. */
const PAD = 0.05;

/** A range that holds all values, with room on both sides. */
function padRange(values: readonly number[]): readonly [low: number, high: number] {
  const low = Math.min(...values), high = Math.max(...values), pad = PAD * (high - low || 1);
  return [low - pad, high + pad];
}

/**
 * Names curves at their right ends, none upon another; a page without room for that shows the legend instead of them.
 *
 * @param values All values of both axes.
 * @param options `height` of the figure in pixels; whether the vertical axis `isLog`.
 * @returns Entries for the layout: `annotations`, `showlegend`, `margin`; and the ranges of the axes `x` and `y`.
 */
export function labelCurves(
  ends: readonly CurveEnd[],
  values: { readonly x: readonly number[]; readonly y: readonly number[] },
  { height, isLog }: { readonly height: number; readonly isLog: boolean },
): { readonly layout: JsonObject } & { readonly [axis in "x" | "y"]: readonly [low: number, high: number] } {
  const place = (value: number) => isLog ? Math.log10(value) : value;
  const range = padRange(values.y.map(place));
  const pixels = height - MARGIN.top - MARGIN.bottom;
  const pixelOf = ({ y }: CurveEnd) => pixels * (place(y) - range[0]) / (range[1] - range[0]);
  const sorted = ends.toSorted((a, b) => place(a.y) - place(b.y));
  const at = spread(sorted.map(pixelOf), pixels);
  const annotations = sorted.map((end, i) => {
    const moved = Math.round(at[i]! - pixelOf(end));
    return {
      name: "curve",
      text: escapeText(end.name),
      font: { color: end.color, size: 12 },
      x: end.x,
      y: place(end.y),
      xanchor: "left",
      // A name that had to leave its curve's end has a line to it.
      ...(Math.abs(moved) < LINE_PIXELS
        ? { xshift: 12, yshift: moved, showarrow: false }
        : { showarrow: true, arrowhead: 0, arrowwidth: 1, arrowcolor: end.color, ax: 14, ay: -moved }),
    };
  });
  const r = 20 + CHARACTER_PIXELS * Math.max(...ends.map(({ name }) => name.length));
  return {
    layout: { annotations, showlegend: false, margin: { l: 58, r, t: MARGIN.top, b: MARGIN.bottom } },
    x: padRange(values.x),
    y: range,
  };
}

/** Moves ascending places apart, as little as need be: upwards first, then down from the top. */
function spread(places: readonly number[], top: number): number[] {
  const moved = [...places];
  for (let i = 1; i < moved.length; i++) moved[i] = Math.max(moved[i]!, moved[i - 1]! + LINE_PIXELS);
  for (let i = moved.length - 1, limit = top; i >= 0; i--, limit -= LINE_PIXELS) {
    moved[i] = Math.min(moved[i]!, limit);
    limit = Math.min(limit, moved[i]!);
  }
  return moved;
}
