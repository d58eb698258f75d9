import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { collectRidgelines, collectTrueRedundancy, estimateDensity, plotRidgelines } from "./ridgelines.ts";

const trace = (
  layer: number,
  redundancy: readonly (number | null)[],
  threshold: readonly (number | null)[] = [],
) => ({
  layer,
  redundancy,
  threshold,
});

Deno.test("estimateDensity() is the mean of Gaussian bells of Silverman's width", () => {
  const scores = [0, 1, 2, 3, 4];
  // sd = sqrt(2), IQR / 1.34 = 2 / 1.34 > sd: width = 0.9 sqrt(2) 5^-0.2.
  const width = 0.9 * Math.SQRT2 * 5 ** -0.2;
  const expected = scores.reduce((sum, s) => sum + Math.exp(-0.5 * ((1.5 - s) / width) ** 2), 0) /
    (5 * width * Math.sqrt(2 * Math.PI));
  const grid = Array.from({ length: 201 }, (_, i) => -6 + i * 0.08);
  const density = estimateDensity(scores, [...grid, 1.5]);
  assertAlmostEquals(density.at(-1)!, expected, 1e-15);
  const area = density.slice(0, -1).reduce((a, b) => a + b, 0) * 0.08;
  assertAlmostEquals(area, 1, 1e-3);
});

Deno.test("collectRidgelines() puts all layers on one grid, a little past their scores", () => {
  const { grid, ridges } = collectRidgelines([trace(2, [null, 0, 1], [null, 0.5, 0.75]), trace(3, [5, 10])]);
  assertAlmostEquals(grid[0]!, -0.6, 1e-12);
  assertAlmostEquals(grid.at(-1)!, 10.6, 1e-12);
  assertEquals(ridges.map(({ layer, count, median, theta }) => [layer, count, median, theta]), [
    [2, 2, 0.5, 0.625],
    [3, 2, 7.5, null],
  ]);
  assert(ridges[0]!.density[3]! > ridges[1]!.density[3]!);
});

Deno.test("collectRidgelines() takes equal scores, and layers without any", () => {
  const { grid, ridges } = collectRidgelines([trace(0, [0.5, 0.5]), trace(1, [NaN])]);
  assert(grid[0]! < 0.5 && grid.at(-1)! > 0.5 && ridges[0]!.density.every(Number.isFinite));
  assert(Math.max(...ridges[0]!.density) > 1);
  assertEquals(Math.max(...ridges[1]!.density), 0);
  assertEquals(plotRidgelines(collectRidgelines([trace(0, [0.5, 0.5]), trace(1, [null])])).data.length, 3);
});

Deno.test("collectTrueRedundancy() cuts each layer where its fraction of redundant tokens begins", () => {
  const [ridge] = collectTrueRedundancy([{ layer: 3, r: [1, 0.1, 0.01] }], () => 0.5).ridges;
  assertEquals([ridge!.count, ridge!.median, ridge!.theta], [3, 1, 1]);
  assertEquals(collectTrueRedundancy([{ layer: 3 }], () => 0.5).grid, []);
});

Deno.test("plotRidgelines() darkens what lies above the threshold, and says what is missing", () => {
  const fills = (theta: number | null) =>
    plotRidgelines(collectRidgelines([trace(0, [0, 1], [theta])])).data.map(({ fillcolor }) => fillcolor)
      .filter((fill) => fill !== undefined);
  assertEquals(fills(0.5), ["@heat1", "@heat3"]);
  assertEquals([fills(null), fills(5)], [["@heat1"], ["@heat1"]]);
  const empty = plotRidgelines(collectRidgelines([]), "true redundancy");
  assertEquals([empty.title, empty.data], ["True redundancy per layer", []]);
});
