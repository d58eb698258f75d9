/** Systems of linear equations. */

/**
 * Cholesky's decomposition A = L L' of a symmetric positive definite A.
 *
 * @param A [n, n], left as it is.
 * @returns L, [n, n], lower triangular.
 * @throws {RangeError} If A is not positive definite.
 */
export function decomposeCholesky(A: Float64Array, n: number): Float64Array {
  const L = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = A[i * n + j]!;
      for (let k = 0; k < j; k++) sum -= L[i * n + k]! * L[j * n + k]!;
      if (i === j && !(sum > 0)) {
        throw new RangeError(
          "Cannot solve: found a matrix that is not positive definite, expected one that is",
        );
      }
      L[i * n + j] = i === j ? Math.sqrt(sum) : sum / L[j * n + j]!;
    }
  }
  return L;
}

/** Solves L y = b for a lower triangular L, [n, n]; y may be b. */
export function solveLower(L: Float64Array, b: Float64Array, y: Float64Array): void {
  const n = b.length;
  for (let i = 0; i < n; i++) {
    let sum = b[i]!;
    for (let k = 0; k < i; k++) sum -= L[i * n + k]! * y[k]!;
    y[i] = sum / L[i * n + i]!;
  }
}

/**
 * Solves A x = b for a symmetric positive definite A by Cholesky's decomposition.
 *
 * @param A [n, n], left as it is.
 * @param b [n], left as it is.
 * @param x [n], the result.
 * @throws {RangeError} If A is not positive definite.
 */
export function solveCholesky(A: Float64Array, b: Float64Array, x: Float64Array): void {
  const n = b.length, L = decomposeCholesky(A, n);
  solveLower(L, b, x);
  for (let i = n - 1; i >= 0; i--) { // L' x = y
    let sum = x[i]!;
    for (let k = i + 1; k < n; k++) sum -= L[k * n + i]! * x[k]!;
    x[i] = sum / L[i * n + i]!;
  }
}

/**
 * The inverse of a symmetric positive definite matrix by Cholesky's decomposition.
 *
 * @param matrix [size, size], left as it is.
 * @throws {RangeError} If it is not positive definite.
 *
 * @example
 * ```ts
 * import { invertPositive } from "./cholesky.ts";
 * const inverse = invertPositive(Float64Array.of(4, 0, 0, 16), 2);
 * console.assert(inverse.join() === "0.25,0,0,0.0625");
 * ```
 */
export function invertPositive(matrix: Float64Array, size: number): Float64Array<ArrayBuffer> {
  const factor = decomposeCholesky(matrix, size);
  // Rows of the transposed inverse of the factor: row j holds column j, from its diagonal on.
  const columns = new Float64Array(size * size);
  for (let j = 0; j < size; j++) {
    const column = columns.subarray(j * size, (j + 1) * size);
    column[j] = 1 / factor[j * size + j]!;
    for (let i = j + 1; i < size; i++) {
      const row = factor.subarray(i * size, i * size + i);
      let sum = 0;
      for (let k = j; k < i; k++) sum -= row[k]! * column[k]!;
      column[i] = sum / factor[i * size + i]!;
    }
  }
  const inverse = new Float64Array(size * size);
  for (let i = 0; i < size; i++) {
    const a = columns.subarray(i * size, (i + 1) * size);
    for (let j = 0; j <= i; j++) {
      const b = columns.subarray(j * size, (j + 1) * size);
      let sum = 0;
      for (let k = i; k < size; k++) sum += a[k]! * b[k]!;
      inverse[i * size + j] = inverse[j * size + i] = sum;
    }
  }
  return inverse;
}
