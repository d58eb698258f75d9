import { assert, assertEquals, assertMatch } from "@std/assert";
import { axis, baseLayout, emptyFigure, Figure, readPlotly, renderPage, renderSweepReport } from "../mod.ts";
import { makeSummary, makeTrial } from "../testing.ts";
import { withFolder } from "../../testing.ts";
import { type CheckOptions, checkPage, openBrowser, type PageCheck } from "./page_testing.ts";
import { browserTest } from "../figure/testing.ts";

const line = (layout = {}) =>
  new Figure({
    title: "A line",
    caption: "Two points.",
    height: 240,
    data: [{ type: "scatter", x: [0, 1], y: [1, 2], line: { color: "@series0" } }],
    layout: baseLayout({ xaxis: axis("steps"), yaxis: axis("loss (nats)"), ...layout }),
  });

let opened: ReturnType<typeof openBrowser> | undefined;
Deno.test.afterAll(async () => await (await opened)?.close());

/** Looks at a page of figures, in one view of a browser for all tests; `change` breaks its HTML. */
async function check(
  figures: Figure[],
  options: CheckOptions,
  change = (html: string) => html,
): Promise<PageCheck> {
  let found: PageCheck | undefined;
  await withFolder(async (folder) => {
    const html = renderPage({ title: "Test", sections: figures, plotly: await readPlotly() });
    await Deno.writeTextFile(`${folder}/a page.html`, change(html));
    const browser = await (opened ??= openBrowser());
    found = await checkPage(`${folder}/a page.html`, {
      browser,
      widths: [360],
      schemes: ["light"],
      ...options,
    });
  });
  return found!;
}

browserTest("checkPage() finds nothing wrong with good plots, in four views", async () => {
  await withFolder(async (folder) => {
    const figures = [line(), emptyFigure("Nothing", "No trial here: run deno task sweep to get some")];
    const views = { widths: [360, 1280], schemes: ["light", "dark"] as const };
    const { plots, problems, requests, screenshots } = await check(figures, {
      ...views,
      screenshots: `${folder}/new`,
    });
    assertEquals([plots, problems, requests], [2, [], []]);
    assertEquals(screenshots.map((path) => path.slice(folder.length)), [
      "/new/a page_360_light.png",
      "/new/a page_360_dark.png",
      "/new/a page_1280_light.png",
      "/new/a page_1280_dark.png",
    ]);
    for (const path of screenshots) assert((await Deno.stat(path)).size > 1000);
  });
});

browserTest("checkPage() finds labels upon each other, cut off, and turned", async () => {
  const note = (text: string, more: object) => ({
    text,
    xref: "paper",
    yref: "paper",
    showarrow: false,
    ...more,
  });
  const { problems } = await check([line({
    annotations: [
      note("first label", { x: 0.5, y: 0.5 }),
      note("second label", { x: 0.5, y: 0.52, textangle: -40 }),
      note("far away", { x: 1.2, y: 0.9, xanchor: "left" }),
    ],
  })], {});
  assertEquals(problems.length, 2, problems.join("\n"));
  assertMatch(
    problems[0]!,
    /^360 px, light: plot 1 "A line": "first label" and "second label" overlap by [\d.]+ px$/,
  );
  assertMatch(problems[1]!, /"far away" is cut off by \d+ px$/);
});

browserTest("checkPage() finds an axis's title between the axis's labels", async () => {
  const contour = (standoff: number) =>
    new Figure({
      title: "A contour",
      caption: "",
      height: 300,
      data: [{
        type: "contour",
        x: [0, 64],
        y: [0, 1],
        z: [[1, 2], [3, 4]],
        colorbar: { orientation: "h", y: 1, yanchor: "bottom", thickness: 8, outlinewidth: 0 },
      }],
      layout: baseLayout({ xaxis: axis("", { title: { text: "w", standoff } }), yaxis: axis("tau") }),
    });
  const { problems } = await check([contour(10)], {});
  assertEquals(problems.length, 1, problems.join("\n"));
  assertMatch(problems[0]!, /"A contour": "w" stands in the row of its axis's labels, by [\d.]+ px$/);
  assertEquals((await check([contour(30)], {})).problems, []);
});

browserTest("checkPage() finds what did not draw, errors, and a page that is too wide", async () => {
  const look = (figures: Figure[], from = "", to = "", timeoutMs = 30_000) =>
    // The page's policy allows its own scripts only, not those that are put into it here.
    check(figures, { timeoutMs }, (html) =>
      html.replace(/<meta http-equiv="Content-Security-Policy"[^>]*>/, "").replace(from, () =>
        to));
  const missing = await look([line()], "drawFigure(Plotly, at", "(function () {})(Plotly, at", 1000);
  assertEquals([missing.plots, missing.problems], [0, ['360 px, light: plot 1 "A line": not drawn']]);
  const broken = await look(
    [line()],
    "</main>",
    '</main><script>nothing.here</script><p style="width: 700px">x</p>',
  );
  assertEquals([broken.plots, broken.problems.length], [1, 2]);
  assertMatch(broken.problems[0]!, /nothing is not defined/);
  assertEquals(broken.problems[1], "360 px, light: the page is 700 px wide in a window of 360 px");
  const empty = new Figure({ title: "A", caption: "", height: 200, data: [], layout: baseLayout({}) });
  assertEquals((await look([empty])).problems, ['360 px, light: plot 1 "A": drawn without any data']);
});

browserTest("checkPage() uses a browser that is open, and leaves it open", async () => {
  await using browser = await openBrowser();
  await withFolder(async (folder) => {
    await Deno.writeTextFile(
      `${folder}/x.html`,
      "<!DOCTYPE html><title>x</title><script src='https://localhost:9/a.js'></script>",
    );
    const found = await checkPage(`${folder}/x.html`, { browser, widths: [360], schemes: ["dark"] });
    assertEquals([found.plots, found.requests], [0, ["https://localhost:9/a.js"]]);
    assert(browser.isConnected());
  });
});

browserTest(
  "a page saves its files and figures, and its tables are filtered and sorted",
  () =>
    withFolder(async (folder) => {
      const trials = ["learned", "random", "key"].map((fusion, i) => ({
        ...makeTrial({ fusion: fusion as "key" }, 0.5, 50 + 100 * i),
        nllDelta: [-0.2, -0.5, 0.3][i]!,
      }));
      const path = `${folder}/report.html`;
      await Deno.writeTextFile(path, renderSweepReport(makeSummary(trials), { plotly: await readPlotly() }));
      const browser = await openBrowser();
      try {
        const page = await browser.newPage({ viewport: { width: 390, height: 900 } });
        await page.goto(`file://${path}`);
        const save = async (name: string, at = 0) => {
          const [download] = await Promise.all([
            page.waitForEvent("download"),
            page.getByRole("button", { name, exact: true }).nth(at).click(),
          ]);
          return [download.suggestedFilename(), await Deno.readFile(await download.path())] as const;
        };
        const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
        const [csvName, csv] = await save("trials.csv");
        assertEquals([csvName, text(csv).trim().split("\n").length], ["trials.csv", 4]);
        assertEquals(JSON.parse(text((await save("summary.json"))[1])).trials.length, 3);
        await page.waitForSelector("svg.main-svg");
        const [pngName, png] = await save("PNG");
        assertEquals([pngName, [...png.slice(1, 4)]], [
          "loss_against_bytes_of_keys_and_values_in_use_at_the_end_of_a_chunk.png",
          [
            80,
            78,
            71,
          ],
        ]);
        const [svgName, svg] = await save("SVG", 4);
        assertMatch(svgName, /^distance_from_the_full_model.*\.svg$/);
        assertMatch(text(svg), /^<svg [^]*KL divergence/);

        const rules = () => page.locator("tbody tr:visible td:nth-child(2)").allTextContents();
        assertEquals(await rules(), ["dense", "learned *", "random", "key"]);
        await page.getByRole("button", { name: "ppl", exact: true }).click();
        assertEquals(await rules(), ["dense", "learned *", "random", "key"]);
        await page.getByRole("button", { name: "ppl", exact: true }).click();
        assertEquals(await rules(), ["key", "random", "learned *", "dense"]);
        assertEquals(await page.locator("th[aria-sort=descending]").allTextContents(), ["ppl"]);
        // Intervals by their lower ends, as numbers.
        await page.getByRole("button", { name: "95%", exact: true }).click();
        assertEquals(await rules(), ["dense", "random", "learned *", "key"]);
        await page.locator("input[type=search]").fill("0.5 LEARN");
        assertEquals(await rules(), ["learned *"]);
        await page.locator("input[type=search]").fill("");
        assertEquals((await rules()).length, 4);
        const note = page.getByText("it scrolls sideways");
        assertEquals(await note.isVisible(), true);
        await page.setViewportSize({ width: 1280, height: 900 });
        await note.waitFor({ state: "hidden" });
      } finally {
        await browser.close();
      }
    }),
);
