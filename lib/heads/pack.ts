/** What was measured of one chunk as bytes, so that it outlives the process. */
import type { Column, LayerColumns } from "./columns.ts";

/** The chunk's part of every column of every layer, as views of their bytes. */
function piecesOf(layers: readonly LayerColumns[], chunk: number, chunks: number): Uint8Array[] {
  const piece = (column: Column) => {
    const size = column.byteLength / chunks;
    return new Uint8Array(column.buffer, column.byteOffset + chunk * size, size);
  };
  return layers.flatMap(({ columns }) => columns.map(piece));
}

export function packChunk(
  layers: readonly LayerColumns[],
  chunk: number,
  chunks: number,
): Uint8Array<ArrayBuffer> {
  const pieces = piecesOf(layers, chunk, chunks);
  const bytes = new Uint8Array(pieces.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const piece of pieces) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return bytes;
}

/**
 * Fills the columns with what {@linkcode packChunk} gave, under the same options.
 *
 * @throws {RangeError} If there are more or fewer bytes than the columns hold.
 */
export function unpackChunk(
  layers: readonly LayerColumns[],
  chunk: number,
  chunks: number,
  bytes: Uint8Array,
): void {
  const pieces = piecesOf(layers, chunk, chunks);
  const expected = pieces.reduce((sum, { length }) => sum + length, 0);
  if (bytes.length !== expected) {
    throw new RangeError(
      `Cannot go on with chunk ${chunk}: found ${bytes.length} bytes, expected ${expected}`,
    );
  }
  let at = 0;
  for (const piece of pieces) {
    piece.set(bytes.subarray(at, at + piece.length));
    at += piece.length;
  }
}
