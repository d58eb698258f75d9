import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { axis, baseLayout, emptyFigure, Figure, wrapText } from "./figure.ts";
import { DARK, LIGHT } from "./theme.ts";

const parts = {
  title: "Loss & <steps>",
  caption: "How it falls.",
  height: 300,
  data: [{ type: "scatter", x: [0, 1], y: [2, 1], line: { color: "@series0" } }],
  layout: baseLayout({ xaxis: axis("steps"), yaxis: axis("loss (nats)") }),
};

Deno.test("Figure.toJson() is what plotly takes: title, opaque ground, one theme's colours", () => {
  const figure = new Figure(parts);
  for (const theme of [LIGHT, DARK]) {
    const { data, layout } = figure.toJson(theme);
    assertEquals((data[0]!.line as { color: string }).color, theme["@series0"]);
    assertEquals([layout.paper_bgcolor, layout.height], [theme["@card"], 322]);
    assertEquals((layout.title as { text: string }).text, "Loss &amp; &lt;steps&gt;");
    assert(!JSON.stringify({ data, layout }).includes('"@'));
  }
  assertEquals(figure.toJson(), figure.toJson(LIGHT));
  const long = new Figure({ ...parts, title: "word ".repeat(30).trim() });
  assertEquals((long.toJson().layout.title as { text: string }).text.split("<br>").length, 3);
  assertEquals(long.toJson().layout.height, 366);
});

Deno.test("Figure refuses colours that no theme has, and heights that are none", () => {
  assertThrows(() => new Figure({ ...parts, layout: { color: "@magenta" } }), RangeError, '"@magenta"');
  for (const height of [0, -1, NaN, Infinity]) {
    assertThrows(() => new Figure({ ...parts, height }), RangeError, `found height ${height}`);
  }
});

Deno.test("Figure.saveHtml() writes a page that loads nothing", async () => {
  const path = await Deno.makeTempFile({ suffix: ".html" });
  try {
    await new Figure(parts).saveHtml(path);
    const html = await Deno.readTextFile(path);
    assertStringIncludes(html, "<title>Loss &amp; &lt;steps&gt;</title>");
    assertStringIncludes(html, "plotly.js (cartesian");
    assertStringIncludes(html, "default-src 'none'");
  } finally {
    await Deno.remove(path);
  }
});

Deno.test("emptyFigure() says in its place what is missing, in lines that fit a narrow page", () => {
  const figure = emptyFigure("Loss", "No trial here <yet>: run deno task sweep with two ratios to get some");
  assertEquals([figure.title, figure.data.length], ["Loss", 0]);
  const axes = [figure.layout.xaxis, figure.layout.yaxis] as { visible: boolean }[];
  assertEquals(axes.map(({ visible }) => visible), [false, false]);
  const [note] = figure.layout.annotations as { text: string }[];
  assertStringIncludes(note!.text, "&lt;yet&gt;");
  assert(note!.text.split("<br>").every((line) => line.length <= 48));
});

Deno.test("wrapText() cuts between words alone", () => {
  assertEquals(wrapText("one two three four", 9), ["one two", "three", "four"]);
  assertEquals(wrapText("incomprehensibilities are", 5), ["incomprehensibilities", "are"]);
});
