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
