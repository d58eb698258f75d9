/** Figures of executed notebooks: images for readers without scripts, and plotly once in the page made of them. */
import { Figure, plotlyScript, readDisplayed, readPlotly, renderImages, setStaticImage } from "../../mod.ts";

/** A notebook's file, as far as its outputs go (nbformat 4). */
export interface NotebookFile {
  readonly cells: readonly {
    readonly cell_type: string;
    readonly outputs?: readonly { readonly data?: { [mime: string]: unknown } }[];
  }[];
}

/** nbformat keeps a text whole or in lines. */
const textOf = (value: unknown) => Array.isArray(value) ? value.join("") : String(value ?? "");

/**
 * Puts plotly's own drawing of every displayed figure in its output, in place of the table of its data: GitHub and
 * notebooks that are not trusted run no scripts.
 *
 * @param notebook Changed in place.
 * @returns Number of figures.
 * @throws {ChromiumError} If there is no Chromium, or it could not draw.
 */
export async function addStaticImages(notebook: NotebookFile): Promise<number> {
  const found = notebook.cells.flatMap((cell) => cell.outputs ?? []).flatMap(({ data }) => {
    const html = textOf(data?.["text/html"]), parts = readDisplayed(html);
    return parts ? [{ data: data!, html, figure: new Figure({ title: "", caption: "", ...parts }) }] : [];
  });
  const images = await renderImages(found.map(({ figure }) => figure), "svg", { width: 820 });
  for (const [i, { data, html }] of found.entries()) {
    data["text/html"] = setStaticImage(html, images[i]!, textOf(data["text/plain"]));
  }
  return found.length;
}

/** Puts plotly in the head of a page made of a notebook, so that its figures draw without a network. */
export async function inlinePlotly(html: string): Promise<string> {
  const at = html.indexOf("</head>");
  if (at < 0) throw new RangeError("Cannot add plotly: found no head, expected a page of HTML");
  return `${html.slice(0, at)}${plotlyScript(await readPlotly())}\n${html.slice(at)}`;
}
