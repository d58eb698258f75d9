import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import { baseLayout, Figure, type MediaBundle } from "../../../lib/plot/mod.ts";
import { readDisplayed, setStaticImage } from "./displayed.ts";

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
const htmlOf = () => {
  const display = (figure as unknown as Record<symbol, () => MediaBundle>)[Symbol.for("Jupyter.display")]!;
  return String(display.call(figure)["text/html"]);
};

Deno.test("readDisplayed() gives back a displayed figure's parts", () => {
  const { height, data, layout } = figure;
  assertEquals(readDisplayed(htmlOf()), { height, data, layout });
  assertEquals(readDisplayed("<p>var figure = {};</p>"), undefined);
});

Deno.test("setStaticImage() puts an image where the table was, and the drawing goes on", () => {
  const svg = `<svg xmlns="http://www.w3.org/2000/svg"><text fill="#fff">50% & "more"</text></svg>`;
  const html = setStaticImage(htmlOf(), svg, 'A "plot"');
  assert(!html.includes("<table>"));
  const [, alt, src] = html.match(/<img alt="(.*?)" .*? src="(.*?)">/)!;
  assertEquals(alt, "A &quot;plot&quot;");
  assertMatch(src!, /^data:image\/svg\+xml;charset=utf-8,[^"<>#]*$/);
  const text = src!.replaceAll("&amp;", "&").split(",").slice(1).join(",");
  assertEquals(decodeURIComponent(text), svg);
  assertEquals(readDisplayed(html), readDisplayed(htmlOf()));
  assertThrows(() => setStaticImage("<p>", svg, ""), RangeError, "no mark");
});
