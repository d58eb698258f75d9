import { assertEquals } from "@std/assert";
import { TokenFilter } from "../../../methods/bind/token_filter.ts";
import { definedOf, medianOf, positionsOf, quantileOf, recordTrace, splitLayers } from "./layer_trace.ts";
import { shorten } from "../../figure/parts.ts";
import { makeHeadReport } from "../../testing.ts";

Deno.test("splitLayers() cuts a report's columns into one trace a layer", () => {
  const traces = splitLayers(makeHeadReport().sample);
  assertEquals(traces.map(({ layer }) => layer), [4, 5]);
  assertEquals(traces[0], {
    layer: 4,
    redundancy: [null, 0.375, 0.25, 0.625],
    keep: [1, 1, 1, 0],
    threshold: [null, null, 0.375, 0.3125],
    muK: [null, 0.5, 0.25, 0.75],
    varK: [null, 0.01, 0.02, 0.03],
    muV: [null, 0.25, 0.5, 0.5],
    varV: [null, 0.04, 0.05, 0.06],
    wK: [null, 0.5, 0.75, 1],
    position: [0, 1, 2, 3],
    r: [1, 0.1, 0.01, 0.001],
  });
  assertEquals(traces[1]!.redundancy, [null, 0.375, 0.5, 0.625]);
  const none = { layer: [], position: [], S: [], theta: [], keep: [], r: [] };
  assertEquals(splitLayers({ ...none, muK: [], muV: [], varK: [], varV: [], wK: [] }), []);
});

Deno.test("recordTrace() joins the pieces of a layer, and keeps layers and chunks apart", () => {
  const shape = { numLayers: 2, numHeads: 1, numKvHeads: 1, headDim: 2, hiddenSize: 2 };
  const sequence = new TokenFilter(shape, { tail: 1, pruneRatio: 0.5, warmup: 0 }).start();
  const record = recordTrace(), scores: number[] = [];
  for (const t of [0, 1, 2]) {
    for (const layer of [1, 0]) {
      const rows = sequence.step(layer, Float32Array.of(1, t), Float32Array.of(t, 1));
      if (layer === 1) scores.push(...rows.redundancy);
      record.trace(rows, layer, 0);
    }
  }
  assertEquals(record.layers().map(({ layer, keep }) => [layer, keep.length]), [[0, 3], [1, 3]]);
  assertEquals(record.layers()[1]!.redundancy, [null, ...scores.slice(1)]);
  assertEquals(record.layers(1), []);
});

Deno.test("positionsOf() counts where a trace has no positions", () => {
  assertEquals(positionsOf({ keep: [1, 0] }), [0, 1]);
  assertEquals(positionsOf({ keep: [1, 0], position: Int32Array.of(7, 9) }), [7, 9]);
});

Deno.test("quantileOf() interpolates, and is null of nothing", () => {
  assertEquals([0, 0.5, 0.75, 1].map((q) => quantileOf([1, 2, 4], q)), [1, 2, 3, 4]);
  assertEquals([quantileOf([], 0.5), medianOf([]), medianOf([3, 1])], [null, null, 2]);
});

Deno.test("definedOf() and shorten() treat undefined numbers alike", () => {
  assertEquals(definedOf(Float64Array.of(NaN, 1, Infinity)), [1]);
  assertEquals(shorten([1 / 3, null, 12345678], 3), [0.333, null, 12300000]);
});
