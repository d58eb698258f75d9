import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import golden from "./testdata/golden.json" with { type: "json" };
import { StreamingMoments } from "./moments.ts";
import { normals } from "./testing.ts";

function momentsOf(numbers: Iterable<number>): StreamingMoments {
  const moments = new StreamingMoments();
  for (const x of numbers) moments.add(x);
  return moments;
}

Deno.test("StreamingMoments equals numpy", () => {
  for (const { name, scores, mean, variance } of golden) {
    const moments = momentsOf(scores);
    assertEquals(moments.count, scores.length);
    assertAlmostEquals(moments.mean, mean, 1e-9 * Math.max(1, Math.abs(mean)), name);
    assertAlmostEquals(moments.variance, variance, 1e-9 * variance, name);
    assertEquals([moments.min, moments.max], [Math.min(...scores), Math.max(...scores)], name);
  }
});

Deno.test("StreamingMoments.merge() gives the same for any split", () => {
  for (const [offset, scale] of [[0, 1], [1, 1], [1000, 1], [-3, 1e-3], [1e6, 10]] as const) {
    const numbers = normals(3000, 11).map((x) => offset + scale * x);
    const whole = momentsOf(numbers);
    const bound = 1e-12 * (1 + whole.mean ** 2 / whole.variance);
    for (const cuts of [[0], [1], [1500], [2999], [3000], [7, 8, 1000], [500, 1000, 1500, 2000, 2500]]) {
      const edges = [0, ...cuts, 3000];
      const parts = edges.slice(1).map((end, i) => momentsOf(numbers.subarray(edges[i], end)));
      for (const order of [parts, parts.toReversed()]) {
        const merged = new StreamingMoments();
        order.forEach((part) => merged.merge(part));
        assertEquals([merged.count, merged.min, merged.max], [whole.count, whole.min, whole.max]);
        assert(Math.abs(merged.variance / whole.variance - 1) <= bound, `${offset} ${scale} ${cuts}`);
        const deviation = Math.sqrt(whole.variance);
        assert(Math.abs(merged.mean - whole.mean) <= 1e-12 * (Math.abs(whole.mean) + deviation));
      }
    }
  }
});

Deno.test("StreamingMoments has no mean of nothing, and refuses what is not finite", () => {
  const none = new StreamingMoments();
  none.merge(new StreamingMoments());
  assertEquals([none.count, none.mean, none.variance], [0, NaN, NaN]);
  for (const x of [NaN, Infinity, -Infinity]) {
    assertThrows(() => none.add(x), RangeError, "Cannot take moments");
  }
});
