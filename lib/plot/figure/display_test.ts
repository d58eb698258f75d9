import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { withVariables } from "../../testing.ts";
import { displayFigure, plotlyScript, setPlotly, tabulateFigure } from "./display.ts";
import { baseLayout, Figure } from "./figure.ts";
import { PLOTLY_INTEGRITY, PLOTLY_URL } from "./plotly.ts";

const figure = new Figure({
  title: 'Loss of "a" </script>',
  caption: "Two <points>.",
  height: 240,
  data: [
    { type: "scatter", name: "a <b>", x: [0, 1], y: [1.23456, null], line: { color: "@series0" } },
    { type: "scatter", name: "band", showlegend: false, x: [0], y: [9] },
    { type: "heatmap", z: [[1, 2], [3, null]] },
  ],
  layout: baseLayout({}),
});
const htmlOf = () => String(displayFigure(figure)["text/html"]);

Deno.test("a Figure displays itself as plotly's JSON, HTML and a line of text", () => {
  const display =
    (figure as unknown as Record<symbol, () => Record<string, unknown>>)[Symbol.for("Jupyter.display")]!;
  const bundle = display.call(figure);
  assertEquals(Object.keys(bundle), ["application/vnd.plotly.v1+json", "text/html", "text/plain"]);
  assertEquals(bundle["text/plain"], 'Loss of "a" </script>. Two <points>.');
  const json = bundle["application/vnd.plotly.v1+json"] as Record<string, unknown>;
  assertEquals([json.data, json.layout], [figure.toJson().data, figure.toJson().layout]);
});

Deno.test("displayed HTML loads the pinned plotly once, with its digest, and is small", () => {
  const html = htmlOf();
  assert(html.length < 12_000, String(html.length));
  assertEquals(html.split(PLOTLY_URL).length, 2);
  assertStringIncludes(html, `script.integrity = "${PLOTLY_INTEGRITY}"`);
  assertStringIncludes(html, "if (window.Plotly) return done(window.Plotly);");
  assertStringIncludes(html, "window.define = undefined;");
});

Deno.test("displayed HTML has a name of its own in the page each time, and lets no text end a script", () => {
  const names = [htmlOf(), htmlOf()].map((html) => html.match(/ id="(tokenfilter-[\w-]+)"/)![1]);
  assertEquals(new Set(names).size, 2);
  assertEquals(htmlOf().match(/<\/script>/g)!.length, 1);
  assertStringIncludes(htmlOf(), "Loss of &quot;a&quot; &lt;/script&gt;");
});

Deno.test("tabulateFigure() has a row a trace of the legend, with ranges of its numbers", () => {
  const rows = [...String(tabulateFigure(figure)).matchAll(/<tr>(.*?)<\/tr>/g)].map(([, row]) =>
    row!.replaceAll(/<\/?t[dh]>/g, "|")
  );
  assertEquals(rows, [
    "|||points||x||y||z|",
    "|a &lt;b&gt;||2||0 to 1||1.235|||",
    "|heatmap||4||||||1 to 3|",
  ]);
});

Deno.test("setPlotly() puts plotly in the next figure alone, and again when it is called again", async () => {
  const carries = () => htmlOf().includes("plotly.js (cartesian");
  await setPlotly("inline");
  assertEquals([carries(), carries()], [true, false]);
  await setPlotly("inline");
  assertEquals([carries(), carries()], [true, false]);
  await setPlotly("cdn");
  assertEquals(carries(), false);
  await assertRejects(() => setPlotly("web" as "cdn"), RangeError, '"web"');
});

Deno.test("displayFigure() asks the address of the environment before the CDN, where there is one it may read", async () => {
  const { querySync } = Deno.permissions;
  const sources = () => JSON.parse(htmlOf().match(/loadPlotly\((\[.*?\]), function/)![1]!);
  const near = "http://127.0.0.1:1/plotly.min.js";
  try {
    await withVariables({ TOKENFILTER_PLOTLY_URL: undefined }, () => assertEquals(sources(), [PLOTLY_URL]));
    await withVariables({ TOKENFILTER_PLOTLY_URL: near }, () => {
      assertEquals(sources(), [near, PLOTLY_URL]);
      Deno.permissions.querySync = () => ({ state: "prompt" }) as Deno.PermissionStatus;
      assertEquals(sources(), [PLOTLY_URL]);
    });
  } finally {
    Deno.permissions.querySync = querySync;
  }
});

Deno.test("plotlyScript() hides a module loader from plotly and gives it back", () => {
  const scripts = plotlyScript("window.seen = typeof define;");
  const run = new Function(
    "window",
    String(scripts).replaceAll(/<\/?script>/g, "").replace("typeof define", "window.define"),
  );
  const page: Record<string, unknown> = { define: "amd" };
  run(page);
  assertEquals([page.seen, page.define], [undefined, "amd"]);
});
