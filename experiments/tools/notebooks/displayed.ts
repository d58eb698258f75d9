/** A displayed figure in a notebook: its parts, and an image instead of its table. */
import { type FigureParts, LIGHT, markup, STATIC_MARKS } from "../../../lib/plot/mod.ts";

/**
 * The parts of a displayed figure, without its texts.
 *
 * @param html The `text/html` of an output of a notebook.
 * @returns Undefined where it is not that of a figure.
 */
export function readDisplayed(html: string): Pick<FigureParts, "height" | "data" | "layout"> | undefined {
  const found = html.includes(STATIC_MARKS[0]) && html.match(/^var figure = (.*);$/m);
  return found ? JSON.parse(found[1]!) : undefined;
}

/**
 * Replaces the table in a displayed figure's HTML by an image, which readers see where no script runs.
 *
 * @param html The `text/html` of a displayed figure.
 * @param svg The same figure as drawn by plotly, an `<svg>` element.
 * @param alt A text alternative of the image.
 * @throws {RangeError} If the HTML is not that of a displayed figure.
 */
export function setStaticImage(html: string, svg: string, alt: string): string {
  const [start, end] = STATIC_MARKS.map((mark) => html.indexOf(mark));
  if (start! < 0 || end! < start!) {
    throw new RangeError("Cannot add an image: found no mark of a displayed figure, expected its text/html");
  }
  const address = svg.replaceAll(/["%#<>\n]/g, (c) => encodeURIComponent(c));
  const style = `max-width: 100%; background: ${LIGHT["@card"]}`;
  const image = markup`<img alt="${alt}" style="${style}" src="data:image/svg+xml;charset=utf-8,${address}">`;
  return html.slice(0, start! + STATIC_MARKS[0].length) + image + html.slice(end!);
}
