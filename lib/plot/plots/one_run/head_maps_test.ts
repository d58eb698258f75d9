import { assertEquals, assertStringIncludes } from "@std/assert";
import { collectHeadMaps, plotHeadMaps } from "./head_maps.ts";
import { makeHeadReport } from "../../testing.ts";

const views = makeHeadReport().views.map(({ keyState, layers }) => ({ name: keyState, layers }));

Deno.test("collectHeadMaps() turns layers of heads into rows of heads", () => {
  assertEquals(collectHeadMaps(views.slice(0, 1), "mean"), {
    moment: "mean",
    layers: [4, 5],
    numKvHeads: 2,
    grids: [{ name: "post-rope", keys: [[0.4, 0.5], [0.5, 0.6]], values: [[0.4, 0.5], [0.3, 0.4]] }],
  });
  assertEquals(collectHeadMaps(views, "variance").grids[1]!.values, [[0.5, 0.5], [0.5, 0.5]]);
});

Deno.test("plotHeadMaps() has one scale of colours for keys, values and views", () => {
  const figure = plotHeadMaps(collectHeadMaps(views, "mean"));
  assertEquals(figure.data.map(({ name, visible }) => [name, visible]), [
    ["keys", true],
    ["values", true],
    ["keys", false],
    ["values", false],
  ]);
  const { cmin, cmax } = figure.layout.coloraxis as { cmin: number; cmax: number };
  assertEquals([cmin, cmax], [0.3, 0.6]);
});

Deno.test("plotHeadMaps() says what is missing where no head was measured", () => {
  for (const views of [[], [{ name: "x", layers: [] }]]) {
    const figure = plotHeadMaps(collectHeadMaps(views, "mean"));
    assertStringIncludes(JSON.stringify(figure.layout.annotations), "deno task heads");
    assertEquals(figure.data, []);
  }
});
