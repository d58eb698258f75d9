import { assert, assertEquals } from "@std/assert";
import { Figure, renderImages } from "../../../lib/plot/mod.ts";
import { browserTest } from "../../../lib/plot/figure/testing.ts";
import { shrinkSvg } from "./svg.ts";

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

browserTest(
  "shrinkSvg() makes a real scatter plot smaller by four tenths, points and all",
  async () => {
    const x = Array.from({ length: 200 }, (_, i) => i);
    const trace = {
      type: "scatter",
      mode: "markers",
      x,
      y: x.map((v) => Math.sin(v)),
      marker: { color: "@series0" },
    };
    const figure = new Figure({
      title: "t",
      caption: "",
      height: 300,
      data: [trace],
      layout: { font: {}, margin: {} },
    });
    const [svg] = await renderImages([figure], "svg");
    const small = shrinkSvg(svg!);
    assert(small.length < 0.6 * svg!.length, `${small.length} of ${svg!.length} bytes`);
    assertEquals(small.match(/<path/g)!.length, svg!.match(/<path/g)!.length);
  },
);
