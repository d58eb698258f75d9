import { assertAlmostEquals, assertThrows } from "@std/assert";
import { uniform } from "./filter/testing.ts";
import { invertPositive } from "./cholesky.ts";

Deno.test("invertPositive() gives what the matrix turns into the identity, and refuses what is not positive definite", () => {
  const size = 9, next = uniform(5), root = Float64Array.from({ length: size * size }, () => next() - 0.5);
  const product = (a: Float64Array, b: Float64Array, i: number, j: number) =>
    a.subarray(i * size, (i + 1) * size).reduce((sum, x, k) => sum + x * b[k * size + j]!, 0);
  const transposed = root.map((_, at) => root[(at % size) * size + Math.floor(at / size)]!);
  const matrix = root.map((_, at) => product(root, transposed, Math.floor(at / size), at % size));
  for (let i = 0; i < size; i++) matrix[i * size + i]! += 0.1;
  const inverse = invertPositive(matrix, size);
  for (let i = 0; i < size; i++) {
    for (let j = 0; j < size; j++) assertAlmostEquals(product(matrix, inverse, i, j), Number(i === j), 1e-10);
  }
  assertThrows(() => invertPositive(Float64Array.of(1, 2, 2, 1), 2), RangeError, "positive definite");
});
