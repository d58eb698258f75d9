import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { plotHeads, plotHeadsText, renderHeadsReport } from "./heads.ts";
import { makeEmptyHeadReport, makeHeadReport } from "../testing.ts";
import { markup } from "../figure/html.ts";
import { applyTheme, DARK } from "../figure/theme.ts";

const report = makeHeadReport();

Deno.test("plotHeads() draws every figure, in colours that themes have", () => {
  const figures = plotHeads(report);
  assertEquals(figures.length, 14);
  for (const { title, data, layout } of figures) {
    assert(data.length > 0, `"${title}" is empty`);
    applyTheme([data, layout], DARK);
  }
  assertEquals(new Set(figures.map(({ title }) => title)).size, figures.length);
});

Deno.test("plotHeads() takes a report in which nothing could be measured", () => {
  const empty = makeEmptyHeadReport();
  for (const { data, layout } of plotHeads(empty)) {
    assertEquals(data, []);
    assertEquals((layout.annotations as unknown[]).length, 1);
  }
  assertStringIncludes(renderHeadsReport(empty, { plotly: "" }), "No decisions");
});

Deno.test("plotHeadsText() shows the excerpt", () => {
  assertEquals(plotHeadsText(report).toText(), "A <b> @x[\n]");
});

Deno.test("renderHeadsReport() holds the table, every figure and the excerpt, and loads nothing", () => {
  const html = renderHeadsReport(report, { plotly: "window.Plotly = {};", nav: markup`<b>nav</b>` });
  assertEquals(html.split("window.Plotly = {}").length, 2);
  for (let i = 0; i < 14; i++) assertStringIncludes(html, `id="figure${i}"`);
  assertStringIncludes(html, "0.625 [0.500, 0.875]"); // learned: AUROC with its interval
  assertStringIncludes(html, '<tr class="pareto"><td class="left">variance</td>');
  const method = { ...report.options.method, invert: true };
  const inverted = renderHeadsReport({ ...report, options: { ...report.options, method } }, { plotly: "" });
  assertEquals(inverted.match(/<tr class="pareto"><td class="left">([^<]*)</)?.[1], "variance inverted");
  assertStringIncludes(html, "50% of a layer&#39;s tokens".replace("&#39;", "'"));
  assertStringIncludes(html, "KV similarity, head by head: fake on numbers &lt;1&gt;");
  assertStringIncludes(html, "<nav><b>nav</b></nav>");
  assertEquals(/(src|href)=|url\(|https?:/.test(html), false);
});
