import { assertAlmostEquals, assertEquals } from "@std/assert";
import { uniform } from "./filter/testing.ts";
import { greatestDirections } from "./symmetric.ts";

Deno.test("greatestDirections() gives the eigenvectors of the greatest eigenvalues, the greatest first", () => {
  const size = 7, next = uniform(9), values = [3, -1, 9, 0.5, 4, 2, -6];
  // Householder's reflection of a diagonal matrix: its columns are the eigenvectors.
  const v = Array.from({ length: size }, () => next() - 0.5), length = v.reduce((sum, x) => sum + x * x, 0);
  const q = (i: number, j: number) => Number(i === j) - 2 * v[i]! * v[j]! / length;
  const matrix = Float64Array.from({ length: size * size }, (_, at) => {
    const i = Math.floor(at / size), j = at % size;
    return values.reduce((sum, value, k) => sum + q(i, k) * value * q(j, k), 0);
  });
  const found = greatestDirections(matrix, size, 3);
  assertEquals(found.length, size * 3);
  for (const [column, k] of [2, 4, 0].entries()) {
    const dot = values.reduce((sum, _, i) => sum + found[i * 3 + column]! * q(i, k), 0);
    assertAlmostEquals(Math.abs(dot), 1, 1e-12);
  }
});
