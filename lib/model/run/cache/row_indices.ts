/** Indices of rows of a piece of tokens, ascending. */
export type Rows = Int32Array<ArrayBuffer>;

/** `count` indices from `start` on. */
export function range(start: number, count: number): Rows {
  const rows = new Int32Array(count);
  for (let i = 0; i < count; i++) rows[i] = start + i;
  return rows;
}

/** Indices, from `start` on, at which `keep` has a value. @param keep [tokens] u8. */
export function indicesOf(keep: Uint8Array, value: number, start: number): Rows {
  const found = new Int32Array(keep.length);
  let count = 0;
  for (let i = 0; i < keep.length; i++) {
    if (keep[i] === value) found[count++] = start + i;
  }
  return found.subarray(0, count);
}

/** Two ascending lists as one, and where the rows of each are in it; of equal rows that of the first list comes first. */
export function merged(first: Rows, second: Rows): { all: Rows; ofFirst: Rows; ofSecond: Rows } {
  const all = new Int32Array(first.length + second.length);
  const ofFirst = new Int32Array(first.length), ofSecond = new Int32Array(second.length);
  for (let at = 0, i = 0, j = 0; at < all.length; at++) {
    const isFirst = j === second.length || i < first.length && first[i]! <= second[j]!;
    all[at] = isFirst ? first[i]! : second[j]!;
    if (isFirst) ofFirst[i++] = at;
    else ofSecond[j++] = at;
  }
  return { all, ofFirst, ofSecond };
}

/**
 * Some rows of a matrix with `columns` columns, one after the other.
 *
 * @param matrix [n, columns] f64.
 * @returns [rows, columns] f64.
 */
export function pickRows(matrix: Float64Array, rows: Rows, columns: number): Float64Array<ArrayBuffer> {
  const out = new Float64Array(rows.length * columns);
  for (let i = 0; i < rows.length; i++) {
    const from = rows[i]! * columns;
    for (let c = 0; c < columns; c++) out[i * columns + c] = matrix[from + c]!;
  }
  return out;
}
