import { assertAlmostEquals, assertEquals } from "@std/assert";
import golden from "./testdata/golden.json" with { type: "json" };
import { describeNumbers, QUANTILE_LEVELS } from "./distribution.ts";
import { normals } from "./testing.ts";

Deno.test("describeNumbers() equals numpy", () => {
  for (const { name, scores, mean, variance, quantiles } of golden) {
    const found = describeNumbers(scores);
    assertEquals(found.count, scores.length);
    assertAlmostEquals(found.mean!, mean, 1e-9 * Math.max(1, Math.abs(mean)), name);
    assertAlmostEquals(found.variance!, variance, 1e-9 * variance, name);
    assertEquals([found.min, found.max], [Math.min(...scores), Math.max(...scores)], name);
    const known = [0, 0.05, 0.5, 0.95, 1].map((level, i) => [level, quantiles[i]!] as const);
    for (const [level, expected] of known.filter(([level]) => level > 0 && level < 1)) {
      const own = found.quantiles[QUANTILE_LEVELS.findIndex((other) => other === level)]!;
      assertAlmostEquals(own, expected, 1e-9 * Math.max(1, Math.abs(expected)), name);
    }
  }
});

Deno.test("describeNumbers() keeps the digits of a variance far from 0, and of many numbers", () => {
  for (const [offset, scale] of [[0, 1], [1000, 1], [-3, 1e-3], [1e6, 10]] as const) {
    const plain = describeNumbers(normals(60_000, 11));
    const moved = describeNumbers(normals(60_000, 11).map((x) => offset + scale * x));
    const bound = 1e-12 * (1 + (offset / scale) ** 2);
    assertAlmostEquals(moved.variance! / (scale * scale * plain.variance!), 1, Math.max(bound, 1e-9));
    assertAlmostEquals((moved.mean! - offset) / scale, plain.mean!, 1e-9 + 1e-12 * Math.abs(offset / scale));
    assertAlmostEquals((moved.quantiles[3]! - offset) / scale, plain.quantiles[3]!, 1e-6);
  }
});

Deno.test("describeNumbers() leaves NaN out", () => {
  const found = describeNumbers([NaN, 3, 1, 2, NaN, 4]);
  assertEquals([found.count, found.mean, found.variance, found.min, found.max], [4, 2.5, 1.25, 1, 4]);
  assertEquals(found.quantiles[QUANTILE_LEVELS.indexOf(0.5)], 2.5);
  assertEquals(describeNumbers([NaN]), {
    count: 0,
    mean: null,
    variance: null,
    min: null,
    max: null,
    quantiles: QUANTILE_LEVELS.map(() => null),
  });
});
