/** Figures as images: plotly itself draws them, in a Chromium without a window. */
import { ChromiumError, dumpPage } from "./chromium.ts";
import { DRAW, inlineScript, scriptJson } from "./draw.ts";
import type { Figure } from "./figure.ts";
import { readPlotly } from "./plotly.ts";
import { LIGHT, type Theme } from "./theme.ts";

/** How an image is drawn. */
export interface ImageOptions {
  /** Width in pixels, from 100 to 10,000. Default 900. */
  readonly width?: number;
  /** Pixels of a PNG per pixel of its width, from 0.1 to 10. Default 2. */
  readonly scale?: number;
  /** Colours. Default: the light theme. */
  readonly theme?: Theme;
}

/** Draws the figures one after the other, and leaves their images in the document as JSON. */
const SCRIPT = `
${DRAW}
var request = JSON.parse(document.getElementById("request").textContent), images = [];
function finish(result) {
  var out = document.createElement("script");
  out.type = "application/json";
  out.id = "result";
  out.textContent = JSON.stringify(result).replace(/</g, "\\\\u003c");
  document.body.textContent = "";
  document.body.appendChild(out);
}
function next() {
  if (images.length === request.figures.length) return finish({ images: images });
  var place = document.createElement("div"), detail = document.createElement("p"), busy = false;
  place.style.width = request.width + "px";
  document.body.appendChild(place);
  drawFigure(Plotly, place, detail, request.figures[images.length], {}, {
    image: true,
    drawn: function () {
      if (busy) return;
      busy = true;
      var size = { width: request.width, height: place._fullLayout.height };
      Plotly.toImage(place, { format: request.format, scale: request.scale, ...size }).then(function (image) {
        images.push(image);
        Plotly.purge(place);
        place.remove();
        next();
      }).catch(fail);
    }
  });
}
function fail(error) { finish({ error: String(error && error.message || error) }); }
window.addEventListener("unhandledrejection", function (event) { fail(event.reason); });
try { next(); } catch (error) { fail(error); }
`;

/**
 * Draws figures, titles included, all in one run of the browser.
 *
 * @param format `"svg"`: texts of `<svg>` elements; `"png"`: data URLs.
 * @returns One image a figure.
 * @throws {RangeError} If a size is out of range.
 * @throws {ChromiumError} If there is no Chromium, or it could not draw.
 */
export async function renderImages(
  figures: readonly Figure[],
  format: "svg" | "png",
  { width = 900, scale = 2, theme = LIGHT }: ImageOptions = {},
): Promise<string[]> {
  if (!(width >= 100 && width <= 10_000)) {
    throw new RangeError(`Cannot draw an image: found width ${width}, expected 100 to 10000 pixels`);
  }
  if (!(scale >= 0.1 && scale <= 10)) {
    throw new RangeError(`Cannot draw an image: found scale ${scale}, expected 0.1 to 10`);
  }
  if (figures.length === 0) return [];
  const request = {
    format,
    width,
    scale: format === "svg" ? 1 : scale,
    figures: figures.map((figure) => {
      const { data, layout } = figure.toJson(theme);
      return { data, layout, height: layout.height };
    }),
  };
  const html = await dumpPage(
    `<!DOCTYPE html><html><head><meta charset="utf-8"></head><body>
<script type="application/json" id="request">${scriptJson(request)}</script>
<script>${inlineScript(await readPlotly())}</script>
<script>${inlineScript(SCRIPT)}</script></body></html>`,
    width + 100,
  );
  const found = html.match(/<script type="application\/json" id="result">(.*?)<\/script>/s);
  const result = found === null ? { error: "the page did not finish" } : JSON.parse(found[1]!);
  if (result.error !== undefined) throw new ChromiumError(`Cannot draw an image: ${result.error}`);
  const images: string[] = result.images;
  return format === "png" ? images : images.map((image) => decodeURIComponent(image.replace(/^[^,]*,/, "")));
}

/** Writes one figure as an image; the path's ending says which kind. */
export async function saveFigureImage(figure: Figure, path: string, options: ImageOptions): Promise<void> {
  const format = path.match(/\.(png|svg)$/i)?.at(1)?.toLowerCase() as "png" | "svg" | undefined;
  if (format === undefined) {
    throw new RangeError(`Cannot save "${path}": found no known ending, expected .png or .svg`);
  }
  const [image] = await renderImages([figure], format, options);
  if (format === "svg") await Deno.writeTextFile(path, image!);
  else await Deno.writeFile(path, Uint8Array.fromBase64(image!.replace(/^[^,]*,/, "")));
}
