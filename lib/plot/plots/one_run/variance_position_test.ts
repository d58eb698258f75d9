import { assertEquals } from "@std/assert";
import { makeHeadReport } from "../../testing.ts";
import { collectVariancePosition, plotVariancePosition } from "./variance_position.ts";

const report = makeHeadReport();

Deno.test("collectVariancePosition() takes the quartiles of a report's bands", () => {
  const { layers, bands } = collectVariancePosition(report.views[0]!.layers, report.bands);
  assertEquals(bands, report.bands);
  const same = (x: number) => ({ low: [null, x], middle: [null, x], high: [null, x] });
  assertEquals(layers, [
    { layer: 4, keys: same(0.04), values: same(0.08) },
    { layer: 5, keys: same(0.05), values: same(0.1) },
  ]);
});

Deno.test("plotVariancePosition() leaves out bands without tokens", () => {
  const figure = plotVariancePosition(collectVariancePosition(report.views[0]!.layers, report.bands));
  const { ticktext } = figure.layout.xaxis as { ticktext: string[] };
  assertEquals(ticktext, ["1–3"]);
  const keys = figure.data.find(({ name, visible }) => name === "keys" && visible === true)!;
  assertEquals([keys.x, keys.y], [[0], [0.05]]);
  const some = { low: [null, 1], middle: [null, 1], high: [null, 1] },
    none = { low: [null, null], middle: [null, null], high: [null, null] };
  const { layout } = plotVariancePosition({
    bands: [{ from: 0, to: 1 }, { from: 1, to: 2 }],
    layers: [{ layer: 0, keys: none, values: some }],
  });
  assertEquals((layout.xaxis as { ticktext: string[] }).ticktext, ["1"]);
  assertEquals(plotVariancePosition(collectVariancePosition([], [])).data, []);
});
