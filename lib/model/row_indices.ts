/** Indices of rows of a piece of tokens. */

/** Indices of rows of a piece, ascending. */
export type Rows = Int32Array<ArrayBuffer>;

/** `count` indices from `start` on. */
export function range(start: number, count: number): Rows {
  const rows = new Int32Array(count);
  for (let i = 0; i < count; i++) rows[i] = start + i;
  return rows;
}

/** Indices, from `start` on, at which `keep` has a value. */
export function indicesOf(keep: Uint8Array, value: number, start: number): Rows {
  const found = new Int32Array(keep.length);
  let count = 0;
  for (let i = 0; i < keep.length; i++) {
    if (keep[i] === value) found[count++] = start + i;
  }
  return found.subarray(0, count);
}
