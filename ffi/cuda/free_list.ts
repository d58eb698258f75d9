/** Device memory that was freed and is kept for the next allocation: the driver's own takes and frees wait. */

/** Smallest piece that is handed out. */
const LEAST_BYTES = 512;
/** Steps between a power of two and the next: a piece is at most a sixteenth too large. */
const STEPS = 16;
/** Larger pieces are neither rounded up nor kept: few are made, and each is much memory. */
const MOST_BYTES = 256 * 2 ** 20;

/**
 * Bytes of the piece that serves `bytes` of memory, so that pieces of nearly the same size take each other's place.
 *
 * @example
 * ```ts
 * console.assert(pieceBytes(1) === 512 && pieceBytes(1025) === 1088 && pieceBytes(2 ** 30 + 1) === 2 ** 30 + 1);
 * ```
 */
export function pieceBytes(bytes: number): number {
  if (bytes > MOST_BYTES) return bytes;
  if (bytes <= LEAST_BYTES) return LEAST_BYTES;
  const step = 2 ** Math.floor(Math.log2(bytes)) / STEPS;
  return Math.ceil(bytes / step) * step;
}

/** Pieces by size. All work on them must be on one stream, whose order then keeps users of a piece apart. */
export class FreeList {
  readonly #pieces = new Map<number, bigint[]>();
  readonly #limit: number;
  #heldBytes = 0;

  /** @param limit Bytes that may be held. */
  constructor(limit: number) {
    this.#limit = limit;
  }

  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** A piece of exactly this size, if one is held. */
  take(bytes: number): bigint | undefined {
    const address = this.#pieces.get(bytes)?.pop();
    if (address !== undefined) this.#heldBytes -= bytes;
    return address;
  }

  /** Holds a piece. @returns Whether it does: false where it is too large, or enough is held. */
  put(bytes: number, address: bigint): boolean {
    if (bytes > MOST_BYTES || this.#heldBytes + bytes > this.#limit) return false;
    this.#pieces.getOrInsert(bytes, []).push(address);
    this.#heldBytes += bytes;
    return true;
  }

  /** Lets go of all pieces. @returns Their addresses. */
  clear(): bigint[] {
    const all = [...this.#pieces.values()].flat();
    this.#pieces.clear();
    this.#heldBytes = 0;
    return all;
  }
}
