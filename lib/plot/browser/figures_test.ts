/** Figures of notebooks as readers meet them: without a network, and on pages with a module loader. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { withFolder } from "../../testing.ts";
import { type MediaBundle, setPlotly } from "../figure/display.ts";
import { PLOTLY_URL, readPlotly } from "../figure/plotly.ts";
import { browserTest, makeFigure } from "../figure/testing.ts";
import { checkPage, openBrowser } from "./page_testing.ts";

/** The HTML by which a kernel displays a figure. */
function show(name: string): string {
  const figure = makeFigure(name) as unknown as Record<symbol, () => MediaBundle>;
  return String(figure[Symbol.for("Jupyter.display")]!()["text/html"]);
}

const pageOf = (figures: readonly string[], head = "") =>
  `<!DOCTYPE html><html><head><title>n</title>${head}</head><body>${figures.join("\n")}</body></html>`;

browserTest(
  "setPlotly() makes the first figure that is displayed carry plotly for all",
  () =>
    withFolder(async (folder) => {
      await setPlotly("inline");
      try {
        const outputs = [show("a"), show("b")], sizes = outputs.map((html) => html.length);
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
