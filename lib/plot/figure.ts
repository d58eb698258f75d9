/** A figure as a value: what plotly draws, with colours by name so that one figure serves light and dark pages. */

/** Anything that JSON can hold. */
export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json };

/** A plot: traces and layout for plotly, and the words around them. */
export interface Figure {
  /** What the plot shows, one line; drawn by the page, not by plotly. */
  readonly title: string;
  /** How to read it. */
  readonly caption: string;
  /** Height of the drawing area in pixels, axes included, legend not. */
  readonly height: number;
  /** Traces of plotly; colours are names of a theme, such as `@ink`. */
  readonly data: readonly { readonly [key: string]: Json }[];
  /** Layout of plotly, likewise. */
  readonly layout: { readonly [key: string]: Json };
}

/** The layout that all plots of axes share. */
export function baseLayout(layout: { readonly [key: string]: Json }): { readonly [key: string]: Json } {
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
export function axis(title: string, more: { readonly [key: string]: Json } = {}): Json {
  return {
    title: { text: title, standoff: 10 },
    gridcolor: "@grid",
    linecolor: "@muted",
    zeroline: false,
    automargin: true,
    ...more,
  };
}

/** Text for plotly's labels and hover, which read a little HTML. */
export function escapeText(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
