import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { scriptJson } from "../figure/draw.ts";
import { readPlotly } from "../figure/plotly.ts";
import { renderSweepReport } from "./sweep.ts";
import { makeSummary, makeTrial } from "../testing.ts";

const summary = makeSummary([
  makeTrial({ fusion: "learned", pruneRatio: 0.3 }, 0.3, 50),
  makeTrial({ fusion: "random", pruneRatio: 0.3 }, 0.3, 55),
]);
const plotly = 'window.Plotly = { react() {} }; var s = "</script><!-- x";';
const html = renderSweepReport(summary, { plotly });

Deno.test("renderSweepReport() holds plotly once, the data, and a row a trial and for dense", () => {
  assertEquals(html.split("window.Plotly = ").length, 2);
  const figures = JSON.parse(html.match(/id="figures">(.*?)<\/script>/s)![1]!);
  assertEquals(figures.length, 6);
  assertEquals(html.match(/<tr[ >]/g)!.length, 2 + summary.trials.length);
  for (let i = 0; i < 6; i++) assertStringIncludes(html, `id="figure${i}"`);
  assertStringIncludes(html, "prefers-color-scheme: dark");
});

Deno.test("renderSweepReport() loads nothing from anywhere", () => {
  assertStringIncludes(html, "default-src 'none'");
  assertEquals(/(src|href)=|url\(|https?:/.test(html), false);
});

Deno.test("scriptJson() can stand inside a script, and reads as the value", () => {
  const value = { text: "</script><!--\u2028\u2029", list: [1, null] };
  const json = scriptJson(value);
  assertEquals(/[<\u2028\u2029]/.test(json), false);
  assertEquals(JSON.parse(json), value);
});

Deno.test("renderSweepReport() lets no text end a script or become markup", () => {
  assertEquals(html.match(/<\/script>/g)!.length, 4);
  assertStringIncludes(html, 'var s = "<\\/script><\\!-- x"');
  assertStringIncludes(html, "numbers &lt;1&gt;");
  assert(!html.includes("numbers <1>"));
  assertMatch(html, /^<!DOCTYPE html>/);
});

Deno.test("renderSweepReport() of a default sweep takes less than 2 MB, plotly included", async () => {
  const trials = Array.from(
    { length: 42 },
    (_, seed) => makeTrial({ fusion: "random", seed }, 0.5, 50 + seed),
  );
  const page = renderSweepReport(makeSummary(trials), { plotly: await readPlotly() });
  assert(page.includes("plotly.js (cartesian") && new TextEncoder().encode(page).length < 2e6);
});
