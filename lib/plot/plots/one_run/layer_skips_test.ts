import { assertEquals, assertStringIncludes } from "@std/assert";
import { collectLayerSkips, plotLayerSkips } from "./layer_skips.ts";
import { makeSummary, makeTrial } from "../../testing.ts";

Deno.test("collectLayerSkips() has a row a configuration and averages seeds", () => {
  const summary = makeSummary([
    makeTrial({ fusion: "random", pruneRatio: 0.25, seed: 0 }, 0.25, 50),
    makeTrial({ fusion: "random", pruneRatio: 0.25, seed: 1 }, 0.125, 51),
    makeTrial({ fusion: "key", pruneRatio: 0.5 }, 0.5, 60),
    makeTrial({ fusion: "key", threshold: "fixed", theta: 0.5 }, 0.375, 60),
    makeTrial({ fusion: "key", pruneRatio: 0.1 }, null, 60),
  ]);
  assertEquals(collectLayerSkips(summary), {
    names: [
      "random · 0.25",
      "key · threshold budget · 0.5",
      "key · threshold fixed · theta 0.5",
    ],
    ratios: [[0, 0.375], [0, 1], [0, 0.75]],
    dropped: 0,
  });
});

Deno.test("plotLayerSkips() draws ratios from 0 to 1, and names them", () => {
  const { data } = plotLayerSkips(
    collectLayerSkips(makeSummary([makeTrial({ pruneRatio: 0.25 }, 0.25, 50)])),
  );
  const { z, text, zmin, zmax } = data[0]!;
  assertEquals([z, zmin, zmax], [[[0, 0.5]], 0, 1]);
  assertEquals((text as string[][])[0]!.map((each) => each.replace(/^.*<br>/, "")), [
    "layer 0: 0.000",
    "layer 1: 0.500",
  ]);
});

Deno.test("plotLayerSkips() says what it leaves out of a long sweep", () => {
  const trials = Array.from({ length: 130 }, (_, i) => makeTrial({ pruneRatio: i / 200 }, i / 200, 50));
  const figure = plotLayerSkips(collectLayerSkips(makeSummary(trials)));
  assertStringIncludes(figure.caption, "The first 120 of 130 rows");
  assertEquals((figure.data[0]!.z as unknown[]).length, 120);
  const empty = plotLayerSkips(collectLayerSkips(makeSummary([])));
  assertStringIncludes(JSON.stringify(empty.layout), "No trial here");
});
