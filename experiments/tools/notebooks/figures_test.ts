/** Figures of notebooks as readers meet them: without scripts, without a network, and on pages with a module loader. */
import {
  assert,
  assertEquals,
  assertMatch,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import {
  axis,
  baseLayout,
  Figure,
  type MediaBundle,
  PLOTLY_URL,
  readPlotly,
  setPlotly,
} from "../../../lib/plot/mod.ts";
import { checkPage, openBrowser } from "../browser/page_testing.ts";
import { browserTest } from "../../../lib/plot/figure/testing.ts";
import { withFolder } from "../../commands/testing.ts";
import type { Output } from "./notebook.ts";
import { addStaticImages, readDisplayed, setStaticImage, shrinkSvg } from "./figures.ts";
import { codeCell, notebookOf, textCell } from "./testing.ts";

const makeFigure = (name: string) =>
  new Figure({
    title: `Loss of "${name}" </script>`,
    caption: "Two points & a <line>.",
    height: 240,
    data: [
      { type: "scatter", name, x: [0, 1], y: [1.23456, 2], text: ["a", "b"], line: { color: "@series0" } },
    ],
    layout: baseLayout({ xaxis: axis("steps"), yaxis: axis("loss (nats)") }),
  });

/** A figure as a kernel displays it. */
function show(name: string): Output {
  const display =
    (makeFigure(name) as unknown as Record<symbol, () => MediaBundle>)[Symbol.for("Jupyter.display")]!;
  return { output_type: "execute_result", data: { ...display.call(makeFigure(name)) } };
}

const htmlOf = ({ data }: Output) => String(data!["text/html"]);
const pageOf = (outputs: readonly Output[], head = "", body = "") =>
  `<!DOCTYPE html><html><head><title>n</title>${head}</head><body ${body}>${
    outputs.map(htmlOf).join("\n")
  }</body></html>`;

browserTest(
  "addStaticImages() puts plotly's drawing in every figure's output, and nowhere else",
  async () => {
    const first = show("a"),
      other: Output = { output_type: "display_data", data: { "text/html": "<b>x</b>" } };
    const lines: Output = {
      ...show("lines"),
      data: { ...show("lines").data, "text/html": htmlOf(show("lines")).split(/(?<=\n)/) },
    };
    const notebook = notebookOf(
      { ...codeCell("a;"), outputs: [first, other] },
      textCell("text"),
      { ...codeCell("b;"), outputs: [lines] },
    );
    const before = structuredClone(notebook);
    const { cells } = await addStaticImages(notebook);
    assertEquals(notebook, before);
    for (const output of [cells[0]!.outputs![0]!, cells[2]!.outputs![0]!]) {
      const found = htmlOf(output);
      assertStringIncludes(found, '<img alt="Loss of &quot;');
      assert(!found.includes("<table>"));
      const svg = decodeURIComponent(found.match(/src="data:image\/svg\+xml;charset=utf-8,(.*?)"/)![1]!);
      assertStringIncludes(svg, "loss (nats)");
    }
    assertEquals(cells[0]!.outputs![1], other);
    const foreign = { ...first, data: { ...first.data, "text/html": "<b>x</b>" } };
    await assertRejects(
      () => addStaticImages(notebookOf({ ...codeCell("a;"), outputs: [foreign] })),
      RangeError,
      "expected that of a Figure",
    );
  },
);

browserTest(
  "setPlotly() makes the first figure that is displayed carry plotly for all",
  () =>
    withFolder(async (folder) => {
      await setPlotly("inline");
      try {
        const outputs = [show("a"), show("b")], sizes = outputs.map((output) => htmlOf(output).length);
        assert(sizes[0]! > 1e6 && sizes[1]! < 2e4, String(sizes));
        await Deno.writeTextFile(`${folder}/page.html`, pageOf(outputs));
        const { plots, problems, requests } = await checkPage(`${folder}/page.html`, { widths: [360] });
        assertEquals([plots, problems, requests], [2, [], []]);
      } finally {
        await setPlotly("cdn");
      }
    }),
);

/** A page of two figures with an AMD loader, as nbconvert's classic pages have; `answer` replaces the network. */
async function openWithLoader(
  answer: string | undefined,
): Promise<{ drawn: number; asked: number; text: string }> {
  await using browser = await openBrowser();
  const page = await browser.newPage();
  let asked = 0;
  await page.route(PLOTLY_URL, (route) => {
    asked++;
    if (answer === undefined) return route.abort();
    return route.fulfill({
      contentType: "text/javascript",
      headers: { "access-control-allow-origin": "*" },
      body: answer,
    });
  });
  const loader = `<script>window.define = function () { throw new Error("taken by the loader"); };
window.define.amd = {};</script>`;
  // From this machine, as JupyterLab's pages are: a browser lets no others ask a server of this machine.
  const html = pageOf([show("a"), show("b")], loader), headers = { "content-type": "text/html" };
  await using server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    () => new Response(html, { headers }),
  );
  await page.goto(`http://127.0.0.1:${server.addr.port}/`);
  await page.waitForFunction(
    `[...document.querySelectorAll(".tokenfilter-figure")].every((figure) =>
      figure.querySelector("svg.main-svg") || figure.textContent.includes("could not be loaded"))`,
  );
  assertEquals(await page.evaluate("typeof window.define"), "function");
  return {
    drawn: await page.locator(".js-plotly-plot .scatterlayer path.js-line").count(),
    asked,
    text: await page.textContent("body") ?? "",
  };
}

browserTest("figures load the pinned plotly once from its address, past a module loader", async () => {
  const { drawn, asked } = await openWithLoader(await readPlotly());
  assertEquals([drawn, asked], [2, 1]);
});

browserTest(
  "figures take plotly from a server of this machine's own where there is no network, and else from the CDN",
  async () => {
    const { get } = Deno.env, text = await readPlotly();
    const headers = { "content-type": "text/javascript", "access-control-allow-origin": "*" };
    await using server = Deno.serve(
      { hostname: "127.0.0.1", port: 0, onListen: () => {} },
      () => new Response(text, { headers }),
    );
    const address = `http://127.0.0.1:${server.addr.port}/plotly.min.js`;
    try {
      Deno.env.get = (name) => name === "TOKENFILTER_PLOTLY_URL" ? address : get.call(Deno.env, name);
      const near = await openWithLoader(undefined);
      assertEquals([near.drawn, near.asked], [2, 0]);
      await server.shutdown();
      const far = await openWithLoader(text);
      assertEquals([far.drawn, far.asked], [2, 1]);
    } finally {
      Deno.env.get = get;
    }
  },
);

browserTest("figures run nothing but the pinned plotly, and say what to do without it", async () => {
  for (const answer of [`${await readPlotly()}\n`, undefined]) {
    const { drawn, text } = await openWithLoader(answer);
    assertEquals(drawn, 0);
    assertStringIncludes(text, 'run await setPlotly("inline") before the first plot');
  }
});

Deno.test("shrinkSvg() says a shared style once and keeps a rare one where it is", () => {
  const point = (x: number) =>
    `<path class="point" data-i="1" d="M${x}.12345,0" style="fill: &quot;a&quot;;"/>`;
  const svg = `<svg class="main" width="1"><text style="x: y">0.12345</text>${point(1)}${point(2)}${
    point(3)
  }</svg>`;
  assertEquals(
    shrinkSvg(svg),
    `<svg width="1"><style>.s0{fill: 'a';}</style><text style="x: y">0.12345</text>` +
      `<path d="M1.12,0" class="s0"/><path d="M2.12,0" class="s0"/><path d="M3.12,0" class="s0"/></svg>`,
  );
});

Deno.test("shrinkSvg() leaves a drawing alone that has nothing to share", () => {
  assertEquals(shrinkSvg("<svg><g/></svg>"), "<svg><g/></svg>");
});

Deno.test("readDisplayed() gives back a displayed figure's parts", () => {
  const { height, data, layout } = makeFigure("a <b>");
  assertEquals(readDisplayed(htmlOf(show("a <b>"))), { height, data, layout });
  assertEquals(readDisplayed("<p>var figure = {};</p>"), undefined);
});

Deno.test("setStaticImage() puts an image where the table was, and the drawing goes on", () => {
  const svg = `<svg xmlns="http://www.w3.org/2000/svg"><text fill="#fff">50% & "more"</text></svg>`;
  const given = htmlOf(show("a")), html = setStaticImage(given, svg, 'A "plot"');
  assert(!html.includes("<table>"));
  const [, alt, src] = html.match(/<img alt="(.*?)" .*? src="(.*?)">/)!;
  assertEquals(alt, "A &quot;plot&quot;");
  assertMatch(src!, /^data:image\/svg\+xml;charset=utf-8,[^"<>#]*$/);
  const text = src!.replaceAll("&amp;", "&").split(",").slice(1).join(",");
  assertEquals(decodeURIComponent(text), svg);
  assertEquals(readDisplayed(html), readDisplayed(given));
  assertThrows(() => setStaticImage("<p>", svg, ""), RangeError, "no mark");
});
