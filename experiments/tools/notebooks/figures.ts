/** Static images of the figures of a notebook, for readers whose page runs no script. */
import {
  Figure,
  type FigureParts,
  type Json,
  LIGHT,
  markup,
  renderImages,
  STATIC_MARKS,
} from "../../../lib/plot/mod.ts";
import { joinText, type Notebook, type Output } from "./notebook.ts";
import { PLOTLY_MIME } from "./outputs.ts";

/** Styles that occur less often than this stay in their elements. */
const LEAST_USES = 3;

/**
 * Puts plotly's own drawing into the output of every figure.
 *
 * @throws {RangeError} If an output with plotly's JSON is not a displayed figure's.
 * @throws {ChromiumError} If Chromium could not draw.
 */
export async function addStaticImages(notebook: Notebook): Promise<Notebook> {
  const displayed = notebook.cells.flatMap(({ outputs = [] }) => outputs).filter(({ data }) =>
    data !== undefined && PLOTLY_MIME in data
  );
  if (displayed.length === 0) return notebook;
  const figures = displayed.map(({ data }) => {
    const parts = readDisplayed(joinText(data!["text/html"]));
    // Its title and caption are in the HTML, next to the image.
    if (parts !== undefined) return new Figure({ ...parts, title: "", caption: "" });
    throw new RangeError("Cannot draw a figure: found HTML of another kind, expected that of a Figure");
  });
  const images = await renderImages(figures, "svg", { width: 760 });
  const replaced = new Map(displayed.map((output, i): [Output, Output] => {
    const { data } = output, alt = joinText(data!["text/plain"]);
    const html = setStaticImage(joinText(data!["text/html"]), shrinkSvg(images[i]!), alt);
    return [output, { ...output, data: { ...data, "text/html": html as Json } }];
  }));
  const cells = notebook.cells.map((cell) =>
    cell.outputs === undefined
      ? cell
      : { ...cell, outputs: cell.outputs.map((output) => replaced.get(output) ?? output) }
  );
  return { ...notebook, cells };
}

/** The parts of a displayed figure, without its texts; undefined where the HTML is not that of a figure. */
export function readDisplayed(html: string): Pick<FigureParts, "height" | "data" | "layout"> | undefined {
  const found = html.includes(STATIC_MARKS[0]) && html.match(/^var figure = (.*);$/m);
  return found ? JSON.parse(found[1]!) : undefined;
}

/**
 * Replaces the table in a displayed figure's HTML by an image, which readers see where no script runs.
 *
 * @param svg The same figure as drawn by plotly, an `<svg>` element.
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

/**
 * Makes the same drawing in fewer bytes. Coordinates get two decimals, which is precise enough for the eye. A style
 * that many elements share is written once, and names that only scripts read are removed.
 *
 * @param svg An `<svg>` element as `Plotly.toImage` gives it.
 */
export function shrinkSvg(svg: string): string {
  const rounded = svg
    .replaceAll(/ (?:d|transform|points)="[^"]*"/g, (path) => path.replaceAll(/(\d+\.\d\d)\d+/g, "$1"))
    .replaceAll(/ (?:class|data-[\w-]+)="[^"]*"/g, "");
  const uses = new Map<string, number>();
  for (const [, style] of rounded.matchAll(/ style="([^"]+)"/g)) {
    uses.set(style!, (uses.get(style!) ?? 0) + 1);
  }
  const shared = [...uses.keys()].filter((style) => uses.get(style)! >= LEAST_USES);
  if (shared.length === 0) return rounded;
  const named = rounded.replaceAll(
    / style="([^"]*)"/g,
    (all, style) => shared.includes(style) ? ` class="s${shared.indexOf(style)}"` : all,
  );
  const rules = shared.map((style, i) => `.s${i}{${style.replaceAll("&quot;", "'")}}`).join("");
  return named.replace(/(<svg[^>]*>)/, `$1<style>${rules}</style>`);
}
