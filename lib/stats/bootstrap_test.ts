import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { blockBootstrap, drawMovingBlocks, percentileInterval } from "./bootstrap.ts";
import { normals } from "./testing.ts";

Deno.test("blockBootstrap() of a mean of independent values gives the normal interval", () => {
  const x = [normals(600, 7), normals(600, 8)];
  const { estimate, low, high } = blockBootstrap([x], ([mean]) => mean!, { blockSize: 1 });
  const all = [...x[0]!, ...x[1]!];
  assertAlmostEquals(estimate, all.reduce((a, b) => a + b) / all.length, 1e-12);
  const half = 1.96 / Math.sqrt(1200);
  assertAlmostEquals(estimate - low, half, 0.1 * half);
  assertAlmostEquals(high - estimate, half, 0.1 * half);
});

Deno.test("blockBootstrap() is wider for values that depend on each other", () => {
  const base = normals(40, 3);
  const x = Float64Array.from({ length: 2560 }, (_, i) => base[Math.floor(i / 64)]!);
  const width = (blockSize: number) => {
    const { low, high } = blockBootstrap([[x]], ([mean]) => mean!, { blockSize, resamples: 300 });
    return high - low;
  };
  assert(width(64) > 5 * width(1));
});

Deno.test("blockBootstrap() weighs a segment's shorter last block by its size", () => {
  const x = [Float64Array.of(1, 2, 3, 4, 10), Float64Array.of(7)];
  const { estimate, low, high } = blockBootstrap([x], ([mean]) => mean!, { blockSize: 4, resamples: 500 });
  assertEquals(estimate, 27 / 6);
  assert(low >= 2.5 && high <= 10 && low < estimate && estimate < high); // blocks of means 2.5, 10 and 7
});

Deno.test("blockBootstrap() draws the same blocks from paired series", () => {
  const x = [normals(1000, 1)], y = [x[0]!.map((value) => value + 2)];
  const { estimate, low, high } = blockBootstrap([x, y], ([a, b]) => b! - a!, { blockSize: 50 });
  for (const value of [estimate, low, high]) assertAlmostEquals(value, 2, 1e-12);
});

Deno.test("blockBootstrap() gives the same interval for the same seed and refuses series that are not paired", () => {
  const x = [normals(500, 5)];
  assertEquals(blockBootstrap([x], ([m]) => m!, { seed: 4 }), blockBootstrap([x], ([m]) => m!, { seed: 4 }));
  const defaults = { blockSize: 64, resamples: 2000, confidence: 0.95, seed: 0 };
  assertEquals(blockBootstrap([x], ([m]) => m!), blockBootstrap([x], ([m]) => m!, defaults));
  assertThrows(
    () => blockBootstrap([x, [normals(400, 5)]], ([m]) => m!),
    RangeError,
    "expected paired series",
  );
  assertThrows(() => blockBootstrap([[]], ([m]) => m!), RangeError, "Cannot resample");
});

Deno.test("drawMovingBlocks() draws overlapping blocks within segments, every value equally often", () => {
  const lengths = [10, 10], resamples = 4000;
  const blocks = drawMovingBlocks(lengths, { blockSize: 4, resamples });
  const counts = new Float64Array(20), sums = new Float64Array(20);
  for (let resample = 0; resample < resamples; resample++) {
    blocks.fill(resample, counts);
    assertEquals(counts.reduce((a, b) => a + b), 20);
    counts.forEach((count, i) => sums[i]! += count);
  }
  sums.forEach((sum) => assertAlmostEquals(sum / resamples, 1, 0.06));

  const one = drawMovingBlocks([10, 4], { blockSize: 14, resamples: 50 });
  const whole = new Float64Array(14), seen = new Set<string>();
  for (let resample = 0; resample < 50; resample++) {
    one.fill(resample, whole);
    if (whole[0] === 1) seen.add(whole.join(""));
  }
  assert(seen.size > 3); // the last block is cut at 14 values, at any place
});

Deno.test("drawMovingBlocks() gives the normal interval of a mean, and the same for the same seed", () => {
  const x = normals(1200, 7), counts = new Float64Array(1200);
  const interval = (seed: number) => {
    const blocks = drawMovingBlocks([600, 600], { blockSize: 8, resamples: 2000, seed });
    const means = Float64Array.from({ length: 2000 }, (_, resample) => {
      blocks.fill(resample, counts);
      return x.reduce((sum, value, i) => sum + value * counts[i]!, 0) / 1200;
    });
    return percentileInterval(x.reduce((a, b) => a + b) / 1200, means);
  };
  const { estimate, low, high } = interval(0);
  const half = 1.96 / Math.sqrt(1200);
  assertAlmostEquals(estimate - low, half, 0.15 * half);
  assertAlmostEquals(high - estimate, half, 0.15 * half);
  assertEquals(interval(3), interval(3));
  assert(interval(3).low !== low);
});

Deno.test("drawMovingBlocks() draws for a seed what it always drew, so that kept reports can be made again", () => {
  const blocks = drawMovingBlocks([12], { blockSize: 4, resamples: 2, seed: 5 }),
    counts = new Float64Array(12);
  const drawn = [0, 1].map((resample) => {
    blocks.fill(resample, counts);
    return counts.join("");
  });
  assertEquals(drawn, ["122111111001", "111111101112"]); // from 1, 5 and 11; from 3, 11 and 8
});

Deno.test("drawMovingBlocks() and percentileInterval() refuse what cannot be", () => {
  assertThrows(
    () => drawMovingBlocks([]),
    RangeError,
    '"length": found 0, expected an integer of at least 1',
  );
  assertThrows(() => drawMovingBlocks([5], { blockSize: 0 }), RangeError, '"blockSize": found 0');
  assertThrows(() => drawMovingBlocks([5], { resamples: 1.5 }), RangeError, '"resamples": found 1.5');
  assertThrows(() => percentileInterval(1, Float64Array.of(NaN)), RangeError, "Cannot take an interval");
  assertEquals(percentileInterval(2, Float64Array.of(3, NaN, 1), 0.5), { estimate: 2, low: 1.5, high: 2.5 });
});
