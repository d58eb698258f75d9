/** Figures and HTML as images, made in a Chromium without a window; plotly itself draws the figures. */
import { ChromiumError, dumpPage } from "./chromium.ts";
import { DRAW, inlineScript, scriptJson } from "./draw.ts";
import type { Figure } from "./figure.ts";
import { readPlotly } from "./plotly.ts";
import { LIGHT, type Theme } from "./theme.ts";

/** @internal How an image is drawn. */
export interface ImageOptions {
  /** Width in pixels, from 100 to 10,000. Default 900. */
  readonly width?: number;
  /** Pixels of a PNG per pixel of its width, from 0.1 to 10. Default 2. */
  readonly scale?: number;
  /** Colours. Default: the light theme. */
  readonly theme?: Theme;
}

/** Reads the request, and leaves the images in the document as JSON. */
const FRAME = `
var request = JSON.parse(document.getElementById("request").textContent), images = [];
function finish(result) {
  var out = document.createElement("script");
  out.type = "application/json";
  out.id = "result";
  out.textContent = JSON.stringify(result).replace(/</g, "\\\\u003c");
  document.body.textContent = "";
  document.body.appendChild(out);
}
function fail(error) { finish({ error: String(error && error.message || error) }); }
window.addEventListener("unhandledrejection", function (event) { fail(event.reason); });
`;

/** Draws the figures one after the other. */
const DRAW_FIGURES = `
${DRAW}
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
try { next(); } catch (error) { fail(error); }
`;

/** Lays HTML out and wraps it in an SVG image, which is painted where a PNG is asked for. */
const DRAW_HTML = `
function draw() {
  var box = document.createElement("div");
  box.setAttribute("style", request.style + "; width: " + request.width + "px; box-sizing: border-box");
  box.innerHTML = request.html;
  document.body.appendChild(box);
  var width = request.width, height = Math.ceil(box.getBoundingClientRect().height);
  var svg = '<svg xmlns="http://www.w3.org/2000/svg" width="' + width + '" height="' + height + '" viewBox="0 0 ' +
    width + " " + height + '"><foreignObject width="100%" height="100%">' +
    new XMLSerializer().serializeToString(box) + "</foreignObject></svg>";
  var source = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(svg);
  if (request.format === "svg") return finish({ images: [source] });
  var image = new Image();
  image.onerror = function () { fail("the browser could not read the HTML as an image"); };
  image.onload = function () {
    try {
      var canvas = document.createElement("canvas");
      canvas.width = Math.round(width * request.scale);
      canvas.height = Math.round(height * request.scale);
      canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
      finish({ images: [canvas.toDataURL("image/png")] });
    } catch (error) { fail(error); }
  };
  image.src = source;
}
try { draw(); } catch (error) { fail(error); }
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
  expectSize(width, scale);
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
  return await drawInPage(format, request, [await readPlotly(), DRAW_FIGURES]);
}

function expectSize(width: number, scale: number): void {
  if (!(width >= 100 && width <= 10_000)) {
    throw new RangeError(`Cannot draw an image: found width ${width}, expected 100 to 10000 pixels`);
  }
  if (!(scale >= 0.1 && scale <= 10)) {
    throw new RangeError(`Cannot draw an image: found scale ${scale}, expected 0.1 to 10`);
  }
}

/** Runs scripts that draw what a request asks for. @returns Texts of SVG, or PNGs as data URLs. */
async function drawInPage(
  format: "svg" | "png",
  request: { readonly width: number; readonly [name: string]: unknown },
  scripts: readonly string[],
): Promise<string[]> {
  const html = await dumpPage(
    `<!DOCTYPE html><html><head><meta charset="utf-8"></head><body>
<script type="application/json" id="request">${scriptJson(request)}</script>
${[FRAME, ...scripts].map((script) => `<script>${inlineScript(script)}</script>`).join("\n")}</body></html>`,
    request.width + 100,
  );
  const found = html.match(/<script type="application\/json" id="result">(.*?)<\/script>/s);
  const result = found === null ? { error: "the page did not finish" } : JSON.parse(found[1]!);
  if (result.error !== undefined) throw new ChromiumError(`Cannot draw an image: ${result.error}`);
  const images: string[] = result.images;
  return format === "png" ? images : images.map((image) => decodeURIComponent(image.replace(/^[^,]*,/, "")));
}

/** Writes one figure as an image; the path's ending says which kind. */
export async function saveFigureImage(figure: Figure, path: string, options: ImageOptions): Promise<void> {
  await saveImage(path, async (format) => (await renderImages([figure], format, options))[0]!);
}

/** Writes HTML without scripts as an image; an SVG holds it as a foreign object, which browsers alone show. */
export async function saveHtmlImage(
  html: string,
  path: string,
  { width = 900, scale = 2, theme = LIGHT }: ImageOptions,
): Promise<void> {
  expectSize(width, scale);
  const style = `background: ${theme["@card"]}; color: ${
    theme["@ink"]
  }; padding: 16px; font: 15px/1.5 sans-serif`;
  await saveImage(
    path,
    async (format) => (await drawInPage(format, { format, width, scale, style, html }, [DRAW_HTML]))[0]!,
  );
}

/** Writes the image that is drawn in the format of the path's ending. */
async function saveImage(path: string, draw: (format: "svg" | "png") => Promise<string>): Promise<void> {
  const format = path.match(/\.(png|svg)$/i)?.at(1)?.toLowerCase() as "png" | "svg" | undefined;
  if (format === undefined) {
    throw new RangeError(`Cannot save "${path}": found no known ending, expected .png or .svg`);
  }
  const image = await draw(format);
  if (format === "svg") await Deno.writeTextFile(path, image);
  else await Deno.writeFile(path, Uint8Array.fromBase64(image.replace(/^[^,]*,/, "")));
}
