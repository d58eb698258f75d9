/** Symmetric positive definite matrices in float64, row-major, of a few thousand rows. */

/**
 * The inverse, by Cholesky's factor.
 *
 * @param matrix [size, size]; only its lower half is read, and it is left as it is.
 * @throws {RangeError} If it is not positive definite.
 *
 * @example
 * ```ts
 * import { invertPositive } from "./matrix.ts";
 * const inverse = invertPositive(Float64Array.of(4, 0, 0, 16), 2);
 * console.assert(inverse.join() === "0.25,0,0,0.0625");
 * ```
 */
export function invertPositive(matrix: Float64Array, size: number): Float64Array<ArrayBuffer> {
  const factor = Float64Array.from(matrix);
  for (let i = 0; i < size; i++) {
    const row = factor.subarray(i * size, (i + 1) * size);
    for (let j = 0; j <= i; j++) {
      const other = factor.subarray(j * size, j * size + j);
      let sum = row[j]!;
      for (let k = 0; k < j; k++) sum -= row[k]! * other[k]!;
      if (j < i) row[j] = sum / factor[j * size + j]!;
      else if (sum > 0) row[i] = Math.sqrt(sum);
      else throw new RangeError(`Cannot invert a matrix of ${size} rows: it is not positive definite`);
    }
  }
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
