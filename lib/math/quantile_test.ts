import { assertAlmostEquals, assertEquals } from "@std/assert";
import { quantile, valueAtRank } from "./quantile.ts";
import { uniform } from "./random.ts";

Deno.test("quantile() interpolates linearly, as numpy does", () => {
  // numpy.quantile([1, 2, 4, 8], [0, 0.1, 0.25, 0.5, 0.6, 0.9, 1])
  const sorted = Float64Array.of(1, 2, 4, 8);
  const want = [1, 1.3, 1.75, 3, 3.6, 6.8, 8];
  [0, 0.1, 0.25, 0.5, 0.6, 0.9, 1].forEach((q, i) =>
    assertAlmostEquals(quantile(sorted, q), want[i]!, 1e-14)
  );
  assertEquals(quantile(Float64Array.of(5), 0.3), 5);
  assertEquals(quantile(Float64Array.of(1, 3, 99), 0.5, 2), 2);
});

Deno.test("a value at a rank is that of the sorted values, ties and infinities among them", () => {
  let counter = 0;
  for (let n = 1; n <= 40; n++) {
    const values = Float64Array.from(
      { length: n },
      () => Math.floor(uniform(BigInt(counter++)) * 12) || Infinity,
    );
    const sorted = values.slice().sort();
    sorted.forEach((value, rank) => assertEquals(valueAtRank(values.slice(), rank), value));
  }
});
