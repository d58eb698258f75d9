import { assertEquals, assertThrows } from "@std/assert";
import { collectFusionWeights, plotFusionWeights } from "./fusion_weight.ts";

const trace = { layer: 3, wK: [NaN, 0, 1, 0.5, 0.25], keep: [1, 1, 1, 1, 1] };

Deno.test("collectFusionWeights() gives quartiles of the window around each token that has a weight", () => {
  assertEquals(collectFusionWeights([trace], { window: 3, texts: ["a", "b", "c", "d", "e"] }), {
    window: 3,
    layers: [{
      layer: 3,
      position: [1, 2, 3, 4],
      wK: [0, 1, 0.5, 0.25],
      texts: ["b", "c", "d", "e"],
      // Windows: [0, 1], [0, 1, 0.5], [1, 0.5, 0.25], [0.5, 0.25].
      low: [0.25, 0.25, 0.375, 0.3125],
      middle: [0.5, 0.5, 0.5, 0.375],
      high: [0.75, 0.75, 0.75, 0.4375],
    }],
  });
});

Deno.test("collectFusionWeights() wants a window with a middle", () => {
  for (const window of [0, 2, 1.5, -3]) {
    assertThrows(() => collectFusionWeights([trace], { window }), RangeError, `found a window of ${window}`);
  }
});

Deno.test("plotFusionWeights() draws tokens and median, and says so where a rule has no weights", () => {
  const figure = plotFusionWeights(collectFusionWeights([trace]));
  assertEquals(figure.data.map(({ name }) => name), [undefined, undefined, "token", "median of 33 tokens"]);
  const lines = figure.layout.shapes as { y0: number; y1: number }[];
  assertEquals(lines.map(({ y0, y1 }) => [y0, y1]), [[0.5, 0.5]]); // keys and values alike
  assertEquals(figure.data[2]!.text, ["token", "token", "token", "token"]);
  assertEquals(plotFusionWeights(collectFusionWeights([{ ...trace, wK: [NaN] }])).data, []);
});
