/** Figures as images, made in a Chromium without a window; plotly itself draws the figures. */
import { expectInteger } from "../../errors.ts";
import { inPage } from "./chromium.ts";
import { DRAW } from "./draw.ts";
import { drawnAlone, type FigureParts } from "./layout.ts";
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

/** Text of a function that draws one figure and gives its image, a data URL. */
const DRAW_IMAGE = `function drawImage(figure, format, width, scale) {
  var place = document.createElement("div"), detail = document.createElement("p");
  place.style.width = width + "px";
  document.body.appendChild(place);
  return new Promise(function (resolve, reject) {
    window.addEventListener("unhandledrejection", function (event) { reject(event.reason); });
    drawFigure(Plotly, place, detail, figure, {}, { image: true, drawn: resolve });
  }).then(function () {
    var height = place._fullLayout.height;
    return Plotly.toImage(place, { format: format, scale: scale, width: width, height: height });
  }).then(function (image) {
    Plotly.purge(place);
    place.remove();
    return image;
  });
}`;

/**
 * Draws figures, titles included, all in one run of the browser.
 *
 * @param format `"svg"`: texts of `<svg>` elements; `"png"`: data URLs.
 * @returns One image a figure.
 * @throws {RangeError} If a size is out of range.
 * @throws {ChromiumError} If there is no Chromium, or it could not draw.
 */
export async function renderImages(
  figures: readonly FigureParts[],
  format: "svg" | "png",
  { width = 900, scale = 2, theme = LIGHT }: ImageOptions = {},
): Promise<string[]> {
  expectInteger("width", width, 100, 10_000);
  if (!(scale >= 0.1 && scale <= 10)) {
    throw new RangeError(`Cannot draw an image: found scale ${scale}, expected 0.1 to 10`);
  }
  if (figures.length === 0) return [];
  const plotly = await readPlotly();
  return await inPage(width + 100, async (page) => {
    await page.addScriptTag({ content: plotly });
    await page.addScriptTag({ content: `${DRAW}\n${DRAW_IMAGE}` });
    const images: string[] = [];
    for (const figure of figures) {
      const { data, layout } = drawnAlone(figure, theme);
      const parts = [{ data, layout, height: layout["height"] }, format, width, format === "svg" ? 1 : scale];
      const image: string = await page.evaluate(`drawImage(...${JSON.stringify(parts)})`);
      images.push(format === "png" ? image : decodeURIComponent(image.replace(/^[^,]*,/, "")));
    }
    return images;
  });
}

/** Prints SVG images as PDF, each on a page of its size. @throws {ChromiumError} As {@linkcode renderImages}. */
export async function printImages(images: readonly string[]): Promise<Uint8Array[]> {
  return await inPage(1000, async (page) => {
    const printed: Uint8Array[] = [];
    for (const image of images) {
      const [, width, height] = image.match(/^<svg[^>]* width="([\d.]+)" height="([\d.]+)"/)!;
      await page.setContent(
        `<body style="margin: 0">${image.replace("<svg", '<svg style="display: block"')}</body>`,
      );
      const size = { width: `${width}px`, height: `${Math.ceil(Number(height)) + 1}px` };
      printed.push(await page.pdf({ ...size, printBackground: true, pageRanges: "1" }));
    }
    return printed;
  });
}
