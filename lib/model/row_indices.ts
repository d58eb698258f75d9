/** Indices of rows of a piece of tokens. */

/** Indices of rows of a piece, ascending. */
export type Rows = Int32Array<ArrayBuffer>;

/** `count` indices from `start` on. */
export function range(start: number, count: number): Rows {
  return Int32Array.from({ length: count }, (_, i) => start + i);
}

/** Indices, from `start` on, at which `keep` has a value. */
export function indicesOf(keep: Uint8Array, value: number, start: number): Rows {
  const found: number[] = [];
  keep.forEach((kept, i) => kept === value && found.push(start + i));
  return Int32Array.from(found);
}
