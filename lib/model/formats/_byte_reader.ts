/** Reads little-endian values one after the other from a file's bytes; running off the end is a ModelFormatError. */
import { ModelFormatError } from "../../errors.ts";
import type { ByteSource } from "./_byte_source.ts";

/** Bytes that are read at first; vocabularies take some megabytes more, which are read as they are come to. */
const FIRST_BYTES = 2 ** 18;

/** How a view reads each type of number, and its bytes. */
const NUMBERS = {
  uint8: ["getUint8", 1],
  int8: ["getInt8", 1],
  uint16: ["getUint16", 2],
  int16: ["getInt16", 2],
  uint32: ["getUint32", 4],
  int32: ["getInt32", 4],
  float32: ["getFloat32", 4],
  float64: ["getFloat64", 8],
  uint64: ["getBigUint64", 8],
  int64: ["getBigInt64", 8],
} as const;

type NumberType = keyof typeof NUMBERS;

export class ByteReader {
  offset = 0;
  #bytes: Uint8Array<ArrayBuffer>;
  #view: DataView;
  readonly #text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  readonly source: ByteSource;

  constructor(source: ByteSource) {
    this.source = source;
    this.#bytes = source.read(0, Math.min(source.size, FIRST_BYTES));
    this.#view = viewOf(this.#bytes);
  }

  get left(): number {
    return this.source.size - this.offset;
  }

  /** An error that points at `offset`, by default at the next byte. */
  error(message: string, offset: number = this.offset): ModelFormatError {
    return new ModelFormatError(this.source.file, message, offset);
  }

  /** Moves past `size` bytes and returns where they begin. */
  skip(size: number, what: string): number {
    if (size > this.left) {
      throw this.error(
        `found ${this.left} bytes, expected ${size} for ${what}; the file is cut short: get it again`,
      );
    }
    const start = this.offset;
    this.offset += size;
    if (this.offset > this.#bytes.length) {
      this.#bytes = this.source.read(
        0,
        Math.min(this.source.size, Math.max(this.offset, 2 * this.#bytes.length)),
      );
      this.#view = viewOf(this.#bytes);
    }
    return start;
  }

  /** A number; of 64 bits a bigint. */
  number(type: NumberType, what: string): number | bigint {
    const [getter, size] = NUMBERS[type], at = this.skip(size, what);
    return this.#view[getter](at, true);
  }

  u32(what: string): number {
    return this.number("uint32", what) as number;
  }

  /** An unsigned 64-bit count of at most `limit`. */
  count(what: string, limit: number): number {
    const at = this.offset, value = this.number("uint64", what);
    if (value > BigInt(limit)) throw this.error(`found ${value} for ${what}, expected at most ${limit}`, at);
    return Number(value);
  }

  /** The file's first bytes, as they are. */
  first(size: number): Uint8Array {
    return this.#bytes.subarray(0, size);
  }

  /** UTF-8 text of `size` bytes. */
  text(size: number, what: string): string {
    const start = this.skip(size, what);
    try {
      return this.#text.decode(this.#bytes.subarray(start, start + size));
    } catch {
      throw this.error(`found bytes that are not UTF-8, expected text for ${what}`, start);
    }
  }
}

const viewOf = ({ buffer, byteOffset, byteLength }: Uint8Array<ArrayBuffer>): DataView =>
  new DataView(buffer, byteOffset, byteLength);
