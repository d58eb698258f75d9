/** Symmetric matrices in float64, row-major: the directions along which they are greatest. */
import { EigenvalueDecomposition, Matrix } from "ml-matrix";

/**
 * Eigenvectors of the greatest eigenvalues.
 *
 * @param matrix Symmetric, [size, size].
 * @returns [size, count], one a column, the greatest first.
 *
 * @example
 * ```ts
 * import { greatestDirections } from "./symmetric.ts";
 * const [x, y] = greatestDirections(Float64Array.of(1, 0, 0, 2), 2, 1);
 * console.assert(x === 0 && Math.abs(y!) === 1);
 * ```
 */
export function greatestDirections(
  matrix: Float64Array,
  size: number,
  count: number,
): Float64Array<ArrayBuffer> {
  const own = Matrix.from1DArray(size, size, matrix);
  const { eigenvectorMatrix } = new EigenvalueDecomposition(own, { assumeSymmetric: true });
  // Eigenvalues come in ascending order.
  return Float64Array.from(
    { length: size * count },
    (_, i) => eigenvectorMatrix.get(Math.floor(i / count), size - 1 - i % count),
  );
}
