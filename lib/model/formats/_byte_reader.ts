/** Reads little-endian values one after the other from a file's bytes; running off the end is a ModelFormatError. */
import { ModelFormatError } from "../../errors.ts";

/** A cursor over the bytes of one file. */
export class ByteReader {
  /** The file's bytes. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** The file's name, for messages. */
  readonly file: string;
  /** Offset of the next byte. */
  offset = 0;
  readonly #view: DataView;
  readonly #text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

  constructor(bytes: Uint8Array<ArrayBuffer>, file: string) {
    this.bytes = bytes;
    this.file = file;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** Bytes not yet read. */
  get left(): number {
    return this.bytes.length - this.offset;
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
    return start;
  }

  u8(what: string): number {
    return this.#view.getUint8(this.skip(1, what));
  }
  i8(what: string): number {
    return this.#view.getInt8(this.skip(1, what));
  }
  u16(what: string): number {
    return this.#view.getUint16(this.skip(2, what), true);
  }
  i16(what: string): number {
    return this.#view.getInt16(this.skip(2, what), true);
  }
  u32(what: string): number {
    return this.#view.getUint32(this.skip(4, what), true);
  }
  i32(what: string): number {
    return this.#view.getInt32(this.skip(4, what), true);
  }
  f32(what: string): number {
    return this.#view.getFloat32(this.skip(4, what), true);
  }
  f64(what: string): number {
    return this.#view.getFloat64(this.skip(8, what), true);
  }
  u64(what: string): bigint {
    return this.#view.getBigUint64(this.skip(8, what), true);
  }
  i64(what: string): bigint {
    return this.#view.getBigInt64(this.skip(8, what), true);
  }

  /** An unsigned 64-bit count of at most `limit`. */
  count(what: string, limit: number): number {
    const at = this.offset, value = this.u64(what);
    if (value > BigInt(limit)) throw this.error(`found ${value} for ${what}, expected at most ${limit}`, at);
    return Number(value);
  }

  /** UTF-8 text of `size` bytes. */
  text(size: number, what: string): string {
    const start = this.skip(size, what);
    try {
      return this.#text.decode(this.bytes.subarray(start, start + size));
    } catch {
      throw this.error(`found bytes that are not UTF-8, expected text for ${what}`, start);
    }
  }
}
