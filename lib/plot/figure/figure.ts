/** A figure as a value: its data for plotly, with colours by name so that one figure serves light and dark pages. */
import { displayFigure, type MediaBundle } from "./display.ts";
import { type ImageOptions, renderImages } from "./image.ts";
import { renderPage } from "./page.ts";
import { readPlotly } from "./plotly.ts";
import type { JsonObject } from "./json.ts";
import { baseLayout, drawnAlone, escapeText, type FigureParts, withoutTags, wrapText } from "./layout.ts";
import { applyTheme, LIGHT, type Theme } from "./theme.ts";

export type { Json, JsonObject } from "./json.ts";
export { axis, baseLayout, escapeText, type FigureParts, titleUnderScale, wrapText } from "./layout.ts";

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
export class Figure implements FigureParts {
  /** The plot's subject, one line; drawn by the page, not by plotly. */
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
    this.data = withoutTags(data);
    this.layout = withoutTags(layout);
  }

  /**
   * Arguments of `Plotly.newPlot`, title included, in the colours of one theme on an opaque ground.
   *
   * @param theme Default: the light one.
   */
  toJson(theme: Theme = LIGHT): { readonly data: readonly JsonObject[]; readonly layout: JsonObject } {
    return drawnAlone(this, theme);
  }

  /**
   * Writes a page that needs nothing but itself, plotly included (1.5 MB).
   *
   * @throws {Deno.errors.NotFound} If the folder does not exist.
   */
  async saveHtml(path: string): Promise<void> {
    const html = renderPage({ title: this.title, sections: [this], plotly: await readPlotly() });
    await Deno.writeTextFile(path, html);
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
    const format = path.match(/\.(png|svg)$/i)?.at(1)?.toLowerCase();
    if (format !== "png" && format !== "svg") {
      throw new RangeError(`Cannot save "${path}": found no known ending, expected .png or .svg`);
    }
    const [image] = await renderImages([this], format, options);
    if (format === "svg") await Deno.writeTextFile(path, image!);
    else await Deno.writeFile(path, Uint8Array.fromBase64(image!.replace(/^[^,]*,/, "")));
  }

  /** The figure in a notebook: plotly's JSON, HTML that draws itself, and a line of text. */
  [Symbol.for("Jupyter.display")](): MediaBundle {
    return displayFigure(this);
  }
}

/**
 * A figure instead of one without data: one line that names the missing data and how to get it.
 *
 * @param title Title of the figure that it replaces.
 * @param why The missing data, and the command that produces it.
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
