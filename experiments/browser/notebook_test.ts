import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { axis, baseLayout, Figure, type MediaBundle, setPlotly } from "../../mod.ts";
import { withFolder } from "../testing.ts";
import { addStaticImages, checkPage, inlinePlotly } from "./mod.ts";
import { browserTest } from "./testing.ts";

function show(name: string): MediaBundle {
  const figure = new Figure({
    title: `Loss of "${name}"`,
    caption: "Two points & a <line>.",
    height: 240,
    data: [{ type: "scatter", name, x: [0, 1], y: [1, 2], text: ["a", "b"], line: { color: "@series0" } }],
    layout: baseLayout({ xaxis: axis("steps"), yaxis: axis("loss (nats)") }),
  });
  return (figure as unknown as Record<symbol, () => MediaBundle>)[Symbol.for("Jupyter.display")]!();
}

const output = (name: string) => ({ data: { ...show(name) } as Record<string, unknown> });
const pageOf = (outputs: readonly { data: Record<string, unknown> }[], body = "") =>
  `<!DOCTYPE html><html><head><title>n</title></head><body ${body}>${
    outputs.map(({ data }) => data["text/html"]).join("\n")
  }</body></html>`;

browserTest(
  "addStaticImages() puts plotly's drawing in every figure's output, and nowhere else",
  async () => {
    const html = output("lines");
    html.data["text/html"] = String(html.data["text/html"]).split(/(?<=\n)/);
    const first = output("a");
    const other = { data: { "text/html": "<b>no figure</b>" } as Record<string, unknown> };
    const notebook = {
      cells: [{ cell_type: "code", outputs: [first, other] }, { cell_type: "markdown" }, {
        cell_type: "code",
        outputs: [html, {}],
      }],
    };
    assertEquals(await addStaticImages(notebook), 2);
    for (const { data } of [first, html]) {
      const found = String(data["text/html"]);
      assertStringIncludes(found, '<img alt="Loss of &quot;');
      assert(!found.includes("<table>"));
      const svg = decodeURIComponent(found.match(/src="data:image\/svg\+xml;charset=utf-8,(.*?)"/)![1]!);
      assertStringIncludes(svg.replaceAll("&amp;", "&"), "loss (nats)");
    }
    assertEquals(other.data["text/html"], "<b>no figure</b>");
  },
);

browserTest(
  "a notebook's page draws its figures from a plotly that it holds once",
  () =>
    withFolder(async (folder) => {
      const outputs = [output("a"), output("a"), output("b")];
      for (const body of ["", 'data-jp-theme-light="false"']) {
        const path = `${folder}/page.html`;
        const html = await inlinePlotly(pageOf(outputs, body));
        assertEquals(html.split("plotly.js v4").length, 2);
        await Deno.writeTextFile(path, html);
        const { plots, problems, requests } = await checkPage(path, { widths: [360], schemes: ["light"] });
        assertEquals([plots, problems, requests], [3, [], []]);
      }
    }),
);

browserTest(
  "setPlotly() makes the first figure that is displayed carry plotly for all",
  () =>
    withFolder(async (folder) => {
      await setPlotly("inline");
      try {
        const outputs = [output("a"), output("b")];
        const sizes = outputs.map(({ data }) => String(data["text/html"]).length);
        assert(sizes[0]! > 4e6 && sizes[1]! < 2e4, String(sizes));
        await Deno.writeTextFile(`${folder}/page.html`, pageOf(outputs));
        const { plots, problems, requests } = await checkPage(`${folder}/page.html`, { widths: [360] });
        assertEquals([plots, problems, requests], [2, [], []]);
      } finally {
        await setPlotly("cdn");
      }
    }),
);

Deno.test("inlinePlotly() wants a page", async () => {
  await assertRejects(() => inlinePlotly("<b>part</b>"), RangeError, "no head");
});
