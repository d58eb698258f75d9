/** Images of figures in notebooks, for readers without scripts. */
import {
  assert,
  assertEquals,
  assertMatch,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import type { MediaBundle } from "../../../lib/plot/mod.ts";
import { browserTest, makeFigure } from "../../../lib/plot/figure/testing.ts";
import type { Output } from "./notebook.ts";
import { addStaticImages, readDisplayed, setStaticImage, shrinkSvg } from "./figures.ts";
import { codeCell, notebookOf, textCell } from "./testing.ts";

/** A figure as a kernel displays it. */
function show(name: string): Output {
  const display =
    (makeFigure(name) as unknown as Record<symbol, () => MediaBundle>)[Symbol.for("Jupyter.display")]!;
  return { output_type: "execute_result", data: { ...display.call(makeFigure(name)) } };
}

const htmlOf = ({ data }: Output) => String(data!["text/html"]);
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
