import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { blockBootstrap } from "./bootstrap.ts";

/** Independent normal values by Box and Muller on a small linear congruential generator. */
function normals(count: number, seed: number): Float64Array {
  let state = seed;
  const uniform = () => ((state = (state * 1103515245 + 12345) % 2147483648) + 1) / 2147483649;
  return Float64Array.from(
    { length: count },
    () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform()),
  );
}

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
  assertThrows(
    () => blockBootstrap([x, [normals(400, 5)]], ([m]) => m!),
    RangeError,
    "expected paired series",
  );
  assertThrows(() => blockBootstrap([[]], ([m]) => m!), RangeError, "Cannot resample");
});
