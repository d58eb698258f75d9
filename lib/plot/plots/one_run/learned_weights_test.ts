import { assertEquals, assertThrows } from "@std/assert";
import { collectLearnedWeights, plotLearnedWeights } from "./learned_weights.ts";

const features = ["muK", "bias", "muV"];

Deno.test("collectLearnedWeights() has a row a feature, without the bias", () => {
  const layers = [{ layer: 4, learnedWeights: [1, 9, -2] }, { layer: 5, learnedWeights: [] }];
  assertEquals(collectLearnedWeights(layers, features), {
    layers: [4, 5],
    features: ["muK", "muV"],
    weights: [[1, null], [-2, null]],
  });
  assertThrows(
    () => collectLearnedWeights([{ layer: 4, learnedWeights: [1] }], features),
    RangeError,
    "found 1, expected 3",
  );
});

Deno.test("plotLearnedWeights() has the same colours on both sides of 0", () => {
  const [map] =
    plotLearnedWeights(collectLearnedWeights([{ layer: 4, learnedWeights: [1, 9, -2] }], features)).data;
  assertEquals([map!.zmin, map!.zmax, map!.z], [-2, 2, [[1], [-2]]]);
  assertEquals(
    plotLearnedWeights(collectLearnedWeights([{ layer: 4, learnedWeights: [] }], features)).data,
    [],
  );
});
