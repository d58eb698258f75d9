/** What becomes of an executed notebook: static images in it, a page, and the page in a browser. */
import { Figure, type Json, type JsonObject, readPlotly, renderImages, setStaticImage } from "../../mod.ts";
import { joinText, type Notebook } from "./notebook.ts";
import { PLOTLY_MIME } from "./outputs.ts";

/** The figure that a displayed figure's HTML draws. Its title and caption are in the HTML, beside the image. */
function readFigure(html: string): Figure | undefined {
  const line = html.match(/^var figure = (\{.*\});$/m);
  if (line === null) return undefined;
  const { height, data, layout } = JSON.parse(line[1]!) as {
    height: number;
    data: readonly JsonObject[];
    layout: JsonObject;
  };
  return new Figure({ title: "", caption: "", height, data, layout });
}

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
    const figure = readFigure(html);
    if (figure !== undefined) return figure;
    throw new RangeError("Cannot draw a figure: found HTML of another kind, expected that of a Figure");
  });
  const images = await renderImages(figures, "svg", { width: 760 });
  const replaced = new Map(displayed.map((output, i) => {
    const alt = joinText(output.data!["text/plain"]);
    const html = setStaticImage(htmls[i]!, roundPaths(images[i]!), alt);
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

/** Cuts the coordinates of paths to two decimals: no eye sees more, and the file is smaller. */
export function roundPaths(svg: string): string {
  return svg.replaceAll(/ d="[^"]*"/g, (path) => path.replaceAll(/(\d+\.\d\d)\d+/g, "$1"));
}

/** Writes what goes into a page's head: plotly, once. */
export async function writeHead(path: string): Promise<void> {
  await Deno.writeTextFile(
    path,
    `<script>${(await readPlotly()).replaceAll(/<\/(script)/gi, "<\\/$1")}</script>`,
  );
}
