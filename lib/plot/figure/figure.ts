/** A figure as a value: what plotly draws, with colours by name so that one figure serves light and dark pages. */
import { displayFigure, type MediaBundle } from "./display.ts";
import { type ImageOptions, saveFigureImage } from "./image.ts";
import { renderFigurePage } from "./page.ts";
import { readPlotly } from "./plotly.ts";
import { applyTheme, LIGHT, type Theme } from "./theme.ts";

/** Anything that JSON can hold. */
export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json };

/** @internal An object of JSON. */
export type JsonObject = { readonly [key: string]: Json };

/** What a figure is made of. */
export type FigureParts = Pick<Figure, "title" | "caption" | "height" | "data" | "layout">;

/**
 * A plot: traces and layout for plotly, and the words around them. It shows itself as the last value of a notebook's
 * cell, and saves itself as a page or an image.
 *
 * @example
 * ```ts
 * import { Figure } from "@tokenfilter/tokenfilter/plot";
 * const figure = new Figure({
 *   title: "Squares",
 *   caption: "A parabola.",
 *   height: 300,
 *   data: [{ type: "scatter", x: [0, 1, 2], y: [0, 1, 4], line: { color: "@series0" } }],
 *   layout: baseLayout({ xaxis: axis("x"), yaxis: axis("x²") }),
 * });
 * console.assert(figure.toJson().data[0]!.type === "scatter");
 * ```
 */
export class Figure {
  /** What the plot shows, one line; drawn by the page, not by plotly. */
  readonly title: string;
  /** How to read it. */
  readonly caption: string;
  /** Height of the drawing area in pixels, axes included, legend not. */
  readonly height: number;
  /** Traces of plotly; colours are names of a theme, such as `@ink`. */
  readonly data: readonly JsonObject[];
  /** Layout of plotly, likewise. */
  readonly layout: JsonObject;

  /**
   * Keeps the parts as they are.
   *
   * @throws {RangeError} If the height is not a positive number, or a colour name is not in the themes.
   */
  constructor({ title, caption, height, data, layout }: FigureParts) {
    if (!(height > 0 && Number.isFinite(height))) {
      throw new RangeError(`Cannot make figure "${title}": found height ${height}, expected pixels above 0`);
    }
    applyTheme([data, layout], LIGHT);
    this.title = title;
    this.caption = caption;
    this.height = height;
    this.data = data;
    this.layout = layout;
  }

  /**
   * What `Plotly.newPlot` takes, title included, in the colours of one theme on an opaque ground.
   *
   * @param theme Default: the light one.
   */
  toJson(theme: Theme = LIGHT): { readonly data: readonly JsonObject[]; readonly layout: JsonObject } {
    const margin = this.layout.margin as JsonObject | undefined;
    const lines = this.title === "" ? [] : wrapText(this.title, 72), room = 22 * lines.length;
    // Above a scale of colours that lies over the axes plotly sets the title too high, as it does titles below it.
    const overScale = this.data.some(({ colorbar }) => (colorbar as JsonObject | undefined)?.y === 1);
    // A slider above the axes has a margin of its own, which the title's room must be added to.
    const sliders = this.layout.sliders as readonly JsonObject[] | undefined;
    const pushed = sliders?.map((slider) => {
      const pad = slider.pad as JsonObject | undefined;
      return { ...slider, pad: { ...pad, t: Number(pad?.t ?? 0) + room } };
    });
    return applyTheme({
      data: this.data,
      layout: {
        ...this.layout,
        title: {
          text: lines.map(escapeText).join("<br>"),
          font: { size: 16 },
          x: 0.01,
          xanchor: "left",
          yref: "container",
          y: 1,
          yanchor: "top",
          // Plotly sets the middle of the lines, not the first, where one alone would be.
          pad: { t: 10 + 10.4 * (lines.length - 1) + (overScale ? 20 : 0) },
        },
        ...(pushed && { sliders: pushed }),
        margin: { ...margin, t: Number(margin?.t ?? 34) + room },
        height: this.height + room,
        paper_bgcolor: "@card",
        plot_bgcolor: "@card",
      },
    }, theme);
  }

  /**
   * Writes a page that needs nothing but itself, plotly included (1.5 MB).
   *
   * @throws {Deno.errors.NotFound} If the folder does not exist.
   */
  async saveHtml(path: string): Promise<void> {
    await Deno.writeTextFile(
      path,
      renderFigurePage([this], { title: this.title, plotly: await readPlotly() }),
    );
  }

  /**
   * Writes an image, drawn by plotly in a headless Chromium: the one of `TOKENFILTER_CHROMIUM`, else the first of
   * `chromium`, `chromium-browser`, `google-chrome` and `google-chrome-stable` on the PATH.
   *
   * @param path Ends in `.png` or `.svg`.
   * @throws {RangeError} If it does not, or the size is not positive.
   * @throws {ChromiumError} If there is no Chromium, or it could not draw.
   */
  async saveImage(path: string, options: ImageOptions = {}): Promise<void> {
    await saveFigureImage(this, path, options);
  }

  /** What a notebook shows: plotly's JSON, HTML that draws itself, and a line of text. */
  [Symbol.for("Jupyter.display")](): MediaBundle {
    return displayFigure(this);
  }
}

/**
 * A figure in place of one that has nothing to show: one line that says what is missing and how to get it.
 *
 * @param title That of the figure it stands for.
 * @param why What is missing, and what to run to get it.
 */
export function emptyFigure(title: string, why: string): Figure {
  const hidden = { visible: false, fixedrange: true };
  return new Figure({
    title,
    caption: "",
    height: 140,
    data: [],
    layout: baseLayout({
      margin: { l: 8, r: 8, t: 8, b: 8 },
      xaxis: hidden,
      yaxis: hidden,
      annotations: [{
        text: wrapText(why, 40).map(escapeText).join("<br>"),
        xref: "paper",
        yref: "paper",
        x: 0.5,
        y: 0.5,
        showarrow: false,
        font: { color: "@muted", size: 13 },
      }],
    }),
  });
}

/** The layout that all plots of axes share. */
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
 * The title of a horizontal axis in a plot with a scale of colours above it: plotly sets it some 20 pixels too high there,
 * into the row of the axis's labels.
 */
export function titleUnderScale(text: string): JsonObject {
  return { text, standoff: 30 };
}

/** Text for plotly's labels and hover, which read a little HTML. */
export function escapeText(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

/** Cuts a text between words into lines of at most `width` characters; a longer word has a line of its own. */
export function wrapText(text: string, width: number): string[] {
  const lines: string[] = [];
  for (const word of text.split(/\s+/)) {
    const joined = `${lines.at(-1)} ${word}`;
    if (lines.length > 0 && joined.length <= width) lines[lines.length - 1] = joined;
    else lines.push(word);
  }
  return lines;
}
