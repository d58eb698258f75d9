import { assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { intervalAround, pairedInterval, pairedMean, pairedSegments, studentT, sumBlocks } from "./paired.ts";

Deno.test("pairedMean() equals the spread of block means when blocks are equal", () => {
  const values = Float64Array.from({ length: 64 * 5 }, (_, i) => Math.sin(i * i) + i / 100);
  const { mean, standardError } = pairedMean([values], 64);
  const means = Array.from(
    { length: 5 },
    (_, b) => values.slice(b * 64, b * 64 + 64).reduce((a, x) => a + x) / 64,
  );
  const centre = means.reduce((a, x) => a + x) / 5;
  const sd = Math.sqrt(means.reduce((a, x) => a + (x - centre) ** 2, 0) / 4);
  assertAlmostEquals(mean, centre, 1e-12);
  assertAlmostEquals(standardError!, sd / Math.sqrt(5), 1e-12);
});

Deno.test("pairedMean() keeps blocks inside their segment", () => {
  // Blocks of 2: [1, 1], [4] and [0, 0], [3]: sums 2, 4, 0, 3 over counts 2, 1, 2, 1; mean 1.5.
  const { mean, standardError } = pairedMean([Float64Array.of(1, 1, 4), Float64Array.of(0, 0, 3)], 2);
  assertEquals(mean, 1.5);
  const squares = (2 - 3) ** 2 + (4 - 1.5) ** 2 + (0 - 3) ** 2 + (3 - 1.5) ** 2;
  assertAlmostEquals(standardError!, Math.sqrt((4 / 3) * squares) / 6, 1e-15);
});

Deno.test("pairedMean() has no standard error for one block", () => {
  assertEquals(pairedMean([Float64Array.of(1, 2)], 64), { mean: 1.5, standardError: null });
});

Deno.test("pairedMean() refuses no values and broken block sizes", () => {
  assertThrows(() => pairedMean([], 64), RangeError, "found no value");
  assertThrows(() => pairedMean([Float64Array.of(1)], 0), RangeError, "expected an integer of at least 1");
});

Deno.test("studentT() has the values of the tables", () => {
  const table = [[1, 12.7062], [2, 4.30265], [3, 3.18245], [4, 2.77645], [5, 2.57058], [
    10,
    2.22814,
  ]] as const;
  for (const [degrees, t] of [...table, [30, 2.04227], [120, 1.97993]] as const) {
    assertAlmostEquals(studentT(0.95, degrees), t, 1e-5);
  }
  assertAlmostEquals(studentT(0.5, 1), 1, 1e-12);
  assertAlmostEquals(studentT(0.99, 7), 3.49948, 1e-5);
});

Deno.test("pairedSegments() is Student's t over whole segments", () => {
  // Means 1, 3, 2 of equal segments: mean 2, standard error 1/sqrt(3), t = 2 sqrt(3) of two degrees, p = 0.0742.
  const segments = [[0, 2], [3, 3], [4, 0]].map((values) => Float64Array.from(values));
  const { estimate, low, high, pValue } = pairedSegments(segments);
  assertAlmostEquals(estimate, 2, 1e-12);
  assertAlmostEquals(high - low, 2 * 4.302653 / Math.sqrt(3), 1e-5);
  assertAlmostEquals(pValue, 1 - 2 * Math.sqrt(3) / Math.sqrt(2 + 12), 1e-12); // the closed form of two degrees
  for (const [degrees, t] of [[1, 12.7062], [5, 2.570582], [30, 2.042272]] as const) {
    // Moved so that t is the table's.
    const values = Float64Array.from({ length: degrees + 1 }, (_, i) => i % 2 === 0 ? 1 : -1);
    const { mean, standardError } = pairedMean([values], 1);
    const moved = Array.from(values, (x) => Float64Array.of(x - mean + t * standardError!));
    assertAlmostEquals(pairedSegments(moved).pValue, 0.05, 1e-5);
  }
  const equal = [Float64Array.of(0), Float64Array.of(0, 0)];
  assertEquals(pairedSegments(equal), { estimate: 0, low: 0, high: 0, pValue: 1 });
  assertEquals(pairedSegments(equal.map((values) => values.map(() => 1))).pValue, 0);
  assertThrows(() => pairedSegments([Float64Array.of(1)]), RangeError, "segments");
});

Deno.test("pairedInterval() is that of the differences, so that what two series share cancels", () => {
  const length = 200,
    segments = (shift: (i: number) => number) =>
      [0, 1].map((chunk) => Float64Array.from({ length }, (_, i) => 9 * Math.sin(i * i + chunk) + shift(i)));
  const a = segments(() => 0), b = segments((i) => 0.5 + (i % 2) / 8);
  const { estimate, low, high } = pairedInterval(sumBlocks(a, 32), sumBlocks(b, 32))!;
  const { mean, standardError } = pairedMean(b.map((own, s) => own.map((x, i) => x - a[s]![i]!)), 32);
  assertAlmostEquals(estimate, mean, 1e-12);
  assertAlmostEquals(high - low, 2 * studentT(0.95, 13) * standardError!, 1e-12);
  assertEquals(intervalAround(1, null, 1), { estimate: 1, low: NaN, high: NaN });
  assertEquals(pairedInterval(sumBlocks(a, 32), sumBlocks(b, 64)), undefined);
});
