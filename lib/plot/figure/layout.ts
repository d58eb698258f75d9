/** The parts of figures: layouts and axes, and texts in them. */
import { type Json, type JsonObject, mapTexts } from "./json.ts";
import { applyTheme, type Theme } from "./theme.ts";

/** @internal The parts of a figure; `Figure` describes each. */
export interface FigureParts {
  readonly title: string;
  readonly caption: string;
  readonly height: number;
  readonly data: readonly JsonObject[];
  readonly layout: JsonObject;
}

/** Arguments of `Plotly.newPlot` for a figure: its title drawn too, in the colours of a theme on an opaque ground. */
export function drawnAlone(
  { title, height, data, layout }: FigureParts,
  theme: Theme,
): { readonly data: readonly JsonObject[]; readonly layout: JsonObject } {
  const margin = layout["margin"] as JsonObject | undefined;
  const lines = title === "" ? [] : wrapText(title, 72), room = 22 * lines.length;
  // Above a scale of colours that lies over the axes plotly sets the title too high, as it does titles below it.
  const overScale = data.some(({ colorbar, marker }) =>
    [colorbar, (marker as JsonObject | undefined)?.["colorbar"]].some((bar) =>
      (bar as JsonObject | undefined)?.["y"] === 1
    )
  );
  // A slider above the axes has a margin of its own, which the title's room must be added to.
  const sliders = layout["sliders"] as readonly JsonObject[] | undefined;
  const pushed = sliders?.map((slider) => {
    const pad = slider["pad"] as JsonObject | undefined;
    return { ...slider, pad: { ...pad, t: Number(pad?.["t"] ?? 0) + room } };
  });
  return applyTheme({
    data,
    layout: {
      ...layout,
      title: {
        text: lines.map(escapeText).join("<br>"),
        font: { size: 16 },
        x: 0.01,
        xanchor: "left",
        yref: "container",
        y: 1,
        yanchor: "top",
        // With several lines plotly puts their middle, not the first line, at the given place.
        pad: { t: 10 + 10.4 * (lines.length - 1) + (overScale ? 20 : 0) },
      },
      ...(pushed && { sliders: pushed }),
      margin: { ...margin, t: Number(margin?.["t"] ?? 34) + room },
      height: height + room,
      paper_bgcolor: "@card",
      plot_bgcolor: "@card",
    },
  }, theme);
}

export function baseLayout(layout: JsonObject): JsonObject {
  return {
    autosize: true,
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: "system-ui, sans-serif", size: 13, color: "@ink" },
    margin: { l: 58, r: 14, t: 34, b: 52 },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: "@muted", activecolor: "@ink" },
    hoverlabel: {
      bgcolor: "@card",
      bordercolor: "@muted",
      font: { color: "@ink", size: 12 },
      align: "left",
      namelength: -1,
    },
    ...layout,
  };
}

/** An axis with a title, quiet grid lines, and no zero line. */
export function axis(title: string, more: JsonObject = {}): Json {
  return {
    title: { text: title, standoff: 10 },
    gridcolor: "@grid",
    linecolor: "@muted",
    zeroline: false,
    automargin: true,
    ...more,
  };
}

/**
 * The title of a horizontal axis in a plot with a scale of colours above it. plotly would set it about 20 pixels too
 * high there, into the row of the axis's labels.
 */
export function titleUnderScale(text: string): JsonObject {
  return { text, standoff: 30 };
}

/** Text for plotly's labels and hover, which read a little HTML. */
export function escapeText(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

/** Tags that plotly's labels may hold: any other text that looks like a tag is shown as text. */
const OTHER_TAGS = /<(?=[a-z/!?])(?!\/?(?:b|br|i|sub|sup|extra)>)/gi;

/** A part of a figure in which no text holds other tags. */
export function withoutTags<Part>(part: Part): Part {
  return mapTexts(part, (text) => text.replaceAll(OTHER_TAGS, "&lt;"));
}

/** Cuts a text between words into lines of at most `width` characters; a longer word has a line of its own. */
export function wrapText(text: string, width: number): string[] {
  return wrapParts(text.split(/\s+/), " ", width);
}

/** Joins parts to lines of at most `width` characters; a longer part has a line of its own. */
export function wrapParts(parts: readonly string[], separator: string, width: number): string[] {
  const lines: string[] = [];
  for (const part of parts) {
    const joined = `${lines.at(-1)}${separator}${part}`;
    if (lines.length > 0 && joined.length <= width) lines[lines.length - 1] = joined;
    else lines.push(part);
  }
  return lines;
}
