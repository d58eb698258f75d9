/** Reads little-endian values one after the other from a file's bytes; running off the end is a ModelFormatError. */
import { ModelFormatError } from "../../errors.ts";
import type { ByteSource } from "./_byte_source.ts";

/** Bytes that are read at first; vocabularies take some megabytes more, which are read as they are come to. */
const FIRST_BYTES = 2 ** 18;

export class ByteReader {
  readonly source: ByteSource;
  offset = 0;
  #bytes: Uint8Array<ArrayBuffer>;
  #view: DataView;
  readonly #text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

  constructor(source: ByteSource) {
    this.source = source;
    this.#bytes = source.read(0, Math.min(source.size, FIRST_BYTES));
    this.#view = viewOf(this.#bytes);
  }

  get file(): string {
    return this.source.file;
  }

  get left(): number {
    return this.source.size - this.offset;
  }

  /** An error that points at `offset`, by default at the next byte. */
  error(message: string, offset: number = this.offset): ModelFormatError {
    return new ModelFormatError(this.file, message, offset);
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

  u8(what: string): number {
    const at = this.skip(1, what);
    return this.#view.getUint8(at);
  }
  i8(what: string): number {
    const at = this.skip(1, what);
    return this.#view.getInt8(at);
  }
  u16(what: string): number {
    const at = this.skip(2, what);
    return this.#view.getUint16(at, true);
  }
  i16(what: string): number {
    const at = this.skip(2, what);
    return this.#view.getInt16(at, true);
  }
  u32(what: string): number {
    const at = this.skip(4, what);
    return this.#view.getUint32(at, true);
  }
  i32(what: string): number {
    const at = this.skip(4, what);
    return this.#view.getInt32(at, true);
  }
  f32(what: string): number {
    const at = this.skip(4, what);
    return this.#view.getFloat32(at, true);
  }
  f64(what: string): number {
    const at = this.skip(8, what);
    return this.#view.getFloat64(at, true);
  }
  u64(what: string): bigint {
    const at = this.skip(8, what);
    return this.#view.getBigUint64(at, true);
  }
  i64(what: string): bigint {
    const at = this.skip(8, what);
    return this.#view.getBigInt64(at, true);
  }

  /** An unsigned 64-bit count of at most `limit`. */
  count(what: string, limit: number): number {
    const at = this.offset, value = this.u64(what);
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
