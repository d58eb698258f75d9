import { assertAlmostEquals, assertEquals } from "@std/assert";
import { quantile } from "./quantile.ts";

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
