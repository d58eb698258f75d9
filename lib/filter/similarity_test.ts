import { assertEquals } from "@std/assert";
import { mean } from "../math/mean.ts";
import { absorb, cosines, decayOf, norm, variance } from "./similarity.ts";
import { makeSpec } from "./testing.ts";

Deno.test("cosines() compares head by head from an offset, 0 for a zero vector", () => {
  const x = Float32Array.of(9, 9, 3, 4, 0, 0, 1, 0, -2, 0);
  const anchor = Float32Array.of(3, 4, 1, 1, 0, 0, 5, 0);
  const out = new Float64Array(4);
  cosines(x, 2, anchor, out);
  assertEquals([...out], [1, 0, 0, -1]);
});

Deno.test("cosines() does not overflow or underflow in float32's range", () => {
  const out = new Float64Array(1);
  cosines(Float32Array.of(3e38, 3e38), 0, Float32Array.of(3e38, 0), out);
  assertEquals(Math.abs(out[0]! - Math.SQRT1_2) < 1e-15, true);
  cosines(Float32Array.of(1e-44, 0), 0, Float32Array.of(1e-44, 0), out);
  assertEquals(out[0], 1);
});

Deno.test("mean() and variance() are those of the population", () => {
  const values = Float64Array.of(1, 2, 3, 6);
  assertEquals(mean(values), 3);
  assertEquals(variance(values, 3), 3.5);
  assertEquals(variance(Float64Array.of(0.7), 0.7), 0);
});

Deno.test("norm() sums squares from an offset", () => {
  assertEquals(norm(Float32Array.of(7, 3, 4, 7), 1, 2), 5);
});

Deno.test("decayOf() starts at 0, then is gamma or m/(m+1)", () => {
  const ema = makeSpec({ gamma: 0.75 }), mean = makeSpec({ anchor: "mean" });
  assertEquals([0, 1, 2].map((m) => decayOf(ema, m)), [0, 0.75, 0.75]);
  assertEquals([0, 1, 3].map((m) => decayOf(mean, m)), [0, 0.5, 0.75]);
});

Deno.test("absorb() moves the anchor and rounds it to float32", () => {
  const anchor = Float32Array.of(5, 5);
  const x = Float32Array.of(0, 1, 2);
  absorb(anchor, x, 1, 0);
  assertEquals([...anchor], [1, 2]);
  absorb(anchor, Float32Array.of(2, 4), 0, 0.9);
  assertEquals([...anchor], [Math.fround(0.9 * 1 + (1 - 0.9) * 2), Math.fround(0.9 * 2 + (1 - 0.9) * 4)]);
});

Deno.test("absorb() with decay m/(m+1) is the running mean", () => {
  const spec = makeSpec({ anchor: "mean" }), anchor = new Float32Array(1);
  [4, 8, 0, 20].forEach((x, m) => absorb(anchor, Float32Array.of(x), 0, decayOf(spec, m)));
  assertEquals(anchor[0], 8);
});
