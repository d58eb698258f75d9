import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import golden from "./testdata/golden.json" with { type: "json" };
import { DistributionBuilder } from "./distribution.ts";
import { QUANTILE_LEVELS } from "./distribution.ts";
import { QuantileSketch } from "./quantile_sketch.ts";
import { normals } from "./testing.ts";

const LEVELS = [0, 0.001, 0.01, 0.05, 0.25, 0.333, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1];

/** Largest distance, in rank, of a sketch's quantiles from where they lie among the sorted numbers. */
function rankError(sketch: QuantileSketch, sorted: Float64Array): number {
  const size = sorted.length;
  return Math.max(...LEVELS.map((level) => {
    const x = sketch.quantile(level);
    const below = sorted.findLastIndex((y) => y < x) + 1, upTo = sorted.findLastIndex((y) => y <= x) + 1;
    const rank = level * (size - 1);
    return Math.max(0, below - 1 - rank, rank - upTo) / size;
  }));
}

const STREAMS: { readonly [name: string]: (count: number) => Float64Array } = {
  normal: (count) => normals(count, 5),
  ascending: (count) => Float64Array.from({ length: count }, (_, i) => i),
  descending: (count) => Float64Array.from({ length: count }, (_, i) => -i),
  ties: (count) => normals(count, 6).map((x) => Math.round(2 * x)),
  skewed: (count) => normals(count, 7).map((x) => Math.exp(4 * x)),
  "far apart": (count) => normals(count, 8).map((x, i) => (i % 3 === 0 ? 1e9 : 0) + x),
};

Deno.test("QuantileSketch is within 0.5% of rank, and stays small", () => {
  for (const [name, stream] of Object.entries(STREAMS)) {
    const numbers = stream(60_000), sketch = new QuantileSketch();
    numbers.forEach((x) => sketch.add(x));
    const error = rankError(sketch, numbers.slice().sort());
    assert(error < 0.005, `${name}: ${error}`);
    assertEquals(sketch.count, 60_000);
    assert(sketch.clusters > 500 && sketch.clusters <= 1000, `${name}: ${sketch.clusters} clusters`);
  }
});

Deno.test("QuantileSketch.merge() stays within 0.5% of rank, and small, for parts of any size", () => {
  for (const [name, stream] of Object.entries(STREAMS)) {
    const numbers = stream(60_000), all = new QuantileSketch();
    const edges = [
      0,
      1,
      2,
      500,
      7000,
      7001,
      30_000,
      ...Array.from({ length: 60 }, (_, i) => 30_500 + 500 * i),
    ];
    edges.slice(1).forEach((end, i) => {
      const part = new QuantileSketch();
      numbers.subarray(edges[i], end).forEach((x) => part.add(x));
      all.merge(part);
      assertEquals(part.count, end - edges[i]!);
    });
    assertEquals(all.count, 60_000);
    assert(all.clusters > 500 && all.clusters <= 1000, `${name}: ${all.clusters} clusters`);
    const error = rankError(all, numbers.slice().sort());
    assert(error < 0.005, `${name}: ${error}`);
  }
});

Deno.test("QuantileSketch knows both ends exactly, also where their clusters hold several numbers", () => {
  const size = 500_000;
  for (const order of [(i: number) => (i * 7919) % size, (i: number) => size - 1 - i]) {
    const sketch = new QuantileSketch();
    for (let i = 0; i < size; i++) sketch.add(order(i));
    assertEquals([sketch.quantile(0), sketch.quantile(1)], [0, size - 1]);
    for (const rank of [0.25, 0.5, 1]) { // straight from the end to the nearest cluster's middle
      assertAlmostEquals(sketch.quantile(rank / (size - 1)), rank, 0.6);
      assertAlmostEquals(sketch.quantile(1 - rank / (size - 1)), size - 1 - rank, 0.6);
    }
  }
});

Deno.test("QuantileSketch equals numpy while it is exact", () => {
  for (const { name, scores, quantiles } of golden) {
    const sketch = new QuantileSketch();
    scores.forEach((x) => sketch.add(x));
    [0, 0.05, 0.5, 0.95, 1].forEach((level, i) =>
      assertAlmostEquals(
        sketch.quantile(level),
        quantiles[i]!,
        1e-9 * Math.max(1, Math.abs(quantiles[i]!)),
        name,
      )
    );
  }
});

Deno.test("QuantileSketch knows nothing of nothing, and refuses what it cannot take", () => {
  const sketch = new QuantileSketch();
  assertEquals([sketch.count, sketch.quantile(0.5)], [0, NaN]);
  assertThrows(() => sketch.add(NaN), RangeError, "Cannot sketch");
  assertThrows(() => sketch.quantile(1.5), RangeError, "Cannot take quantile 1.5");
  sketch.add(4);
  assertEquals(LEVELS.map((level) => sketch.quantile(level)), LEVELS.map(() => 4));
});

Deno.test("DistributionBuilder describes numbers, leaves NaN out and merges", () => {
  const numbers = [NaN, 3, 1, 2, NaN, 4], all = new DistributionBuilder();
  numbers.forEach((x) => all.add(x));
  const whole = all.describe();
  assertEquals([whole.count, whole.mean, whole.variance, whole.min, whole.max], [4, 2.5, 1.25, 1, 4]);
  assertEquals(whole.quantiles[QUANTILE_LEVELS.indexOf(0.5)], 2.5);
  const left = new DistributionBuilder(), right = new DistributionBuilder();
  numbers.forEach((x, i) => (i < 3 ? left : right).add(x));
  left.merge(right);
  assertEquals(left.describe(), whole);
  const none = new DistributionBuilder();
  none.add(NaN);
  assertEquals(none.describe(), {
    count: 0,
    mean: null,
    variance: null,
    min: null,
    max: null,
    quantiles: QUANTILE_LEVELS.map(() => null),
  });
});
