import { assertEquals } from "@std/assert";
import type { CostShape } from "../../cost.ts";
import { hostTensor } from "../../tensor.ts";
import type { CalibratedModel, SeeRows } from "../protocol/calibration.ts";
import { flap } from "./flap.ts";
import { countGone } from "./width.ts";

/**
 * Layers of one head and four channels; the inputs of channel j of a layer's last matrix are -spread[j] and spread[j].
 */
function modelOf(spreads: readonly (readonly number[])[]): CalibratedModel {
  const config = { numHeads: 1, numKvHeads: 1, headDim: 2, hiddenSize: 2, intermediateSize: 4 };
  const run = (_: readonly string[], see: SeeRows) =>
    spreads.forEach((spread, layer) => {
      see(layer, "o", Float32Array.of(1, 2, 3, 4), 2);
      see(layer, "down", Float32Array.of(...spread.map((x) => -x), ...spread), 2);
    });
  const matrix = (_: number, name: string) => {
    const columns = name === "o" ? 2 : 4;
    return hostTensor("f32", [2, columns], new Float32Array(2 * columns).fill(1));
  };
  return { config: { ...config, numLayers: spreads.length }, run, matrix } as unknown as CalibratedModel;
}

Deno.test("flap leaves the only KV head of a layer, and takes channels that are all alike for average ones", () => {
  const of = (...spreads: readonly number[][]) =>
    flap.alter(modelOf(spreads), { pruneRatio: 0.25, compensation: false }).layers!
      .map(({ groups, channels }) => [groups, channels]);
  // A head weighs 8/3 channels: of 13.3 in all, 10 are to stay. Units at the threshold are removed, as the authors do.
  assertEquals(of([3, 1, 4, 2], [3, 1, 4, 2]), [[[0], [0, 2]], [[0], [0, 2]]]);
  assertEquals(of([1, 1, 1, 1], [3, 1, 4, 2]), [[[0], [3]], [[0], [0, 2]]]);
});

Deno.test("countGone() leaves every layer a KV head and a channel", () => {
  const shape = { numHeads: 2, numKvHeads: 2, headDim: 3, intermediateSize: 4 } as CostShape;
  // A KV head with its query head weighs 4 channels: of 12 in all, 6, 9 and 12 are to go.
  assertEquals([0.5, 0.75, 1].map((share) => countGone(shape, share)), [
    { groups: 1, channels: 2 },
    { groups: 1, channels: 3 },
    { groups: 1, channels: 3 },
  ]);
});
