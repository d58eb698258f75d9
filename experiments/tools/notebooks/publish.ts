/** Publishes an executed notebook: static images in it, a page, and a check of the page in a browser. */
import { Figure, type Json, plotlyScript, readPlotly, renderImages } from "../../../lib/plot/mod.ts";
import { readDisplayed, setStaticImage } from "./displayed.ts";
import { joinText, type Notebook } from "./notebook.ts";
import { PLOTLY_MIME } from "./outputs.ts";
import { shrinkSvg } from "./svg.ts";

/**
 * Puts plotly's own drawing under every figure, for readers whose page runs no script.
 *
 * @throws {RangeError} If an output with plotly's JSON is not a displayed figure's.
 * @throws {ChromiumError} If Chromium could not draw.
 */
export async function addStaticImages(notebook: Notebook): Promise<Notebook> {
  const displayed = notebook.cells.flatMap(({ outputs = [] }) =>
    outputs.filter(({ data }) => data !== undefined && PLOTLY_MIME in data)
  );
  const htmls = displayed.map(({ data }) => joinText(data!["text/html"]));
  const figures = htmls.map((html) => {
    const parts = readDisplayed(html);
    // Its title and caption are in the HTML, next to the image.
    if (parts !== undefined) return new Figure({ ...parts, title: "", caption: "" });
    throw new RangeError("Cannot draw a figure: found HTML of another kind, expected that of a Figure");
  });
  const images = await renderImages(figures, "svg", { width: 760 });
  const replaced = new Map(displayed.map((output, i) => {
    const alt = joinText(output.data!["text/plain"]);
    const html = setStaticImage(htmls[i]!, shrinkSvg(images[i]!), alt);
    return [output, { ...output, data: { ...output.data, "text/html": html as Json } }] as const;
  }));
  return {
    ...notebook,
    cells: notebook.cells.map((cell) =>
      cell.outputs === undefined
        ? cell
        : { ...cell, outputs: cell.outputs.map((output) => replaced.get(output) ?? output) }
    ),
  };
}

/** Writes plotly into a page's head, once. */
export async function writeHead(path: string): Promise<void> {
  await Deno.writeTextFile(path, String(plotlyScript(await readPlotly())));
}
