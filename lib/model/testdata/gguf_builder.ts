/** Writes small GGUF files for tests, well-formed or broken on purpose. */
import type { GgufScalar, GgufValueType } from "../formats/gguf.ts";

const TYPE_CODES: { readonly [K in GgufValueType]: number } = {
  uint8: 0,
  int8: 1,
  uint16: 2,
  int16: 3,
  uint32: 4,
  int32: 5,
  float32: 6,
  bool: 7,
  string: 8,
  array: 9,
  uint64: 10,
  int64: 11,
  float64: 12,
};

/** A metadata entry; for a list, `type` has the type of its elements. */
export type Entry =
  | readonly [key: string, type: Exclude<GgufValueType, "array">, value: GgufScalar]
  | readonly [key: string, type: readonly [GgufValueType], value: readonly GgufScalar[]];

/** A tensor as the file has it: GGUF's own order of dimensions, type by number. */
export interface TensorEntry {
  readonly name: string;
  readonly dims: readonly (number | bigint)[];
  readonly type: number;
  readonly data: Uint8Array;
  /** Offset of the data in the file's header; default: their true one. */
  readonly offset?: number | bigint;
}

/** The parts of a file. */
export interface GgufParts {
  readonly magic?: string;
  readonly version?: number;
  readonly alignment?: number;
  readonly entries?: readonly Entry[];
  readonly tensors?: readonly TensorEntry[];
  /** Counts in the header, where they are to be wrong. */
  readonly numTensors?: bigint;
  readonly numEntries?: bigint;
}

/** Bytes of a GGUF file. */
export function buildGguf(parts: GgufParts): Uint8Array<ArrayBuffer> {
  const { entries = [], tensors = [], alignment = 32 } = parts;
  const out = new ByteWriter();
  out.bytes(new TextEncoder().encode(parts.magic ?? "GGUF"));
  out.scalar("uint32", parts.version ?? 3);
  out.scalar("uint64", parts.numTensors ?? BigInt(tensors.length));
  out.scalar("uint64", parts.numEntries ?? BigInt(entries.length));
  for (const [key, type, value] of entries) {
    out.scalar("string", key);
    if (typeof type === "string") {
      out.scalar("uint32", TYPE_CODES[type]);
      out.scalar(type, value as GgufScalar);
    } else {
      const elements = value as readonly GgufScalar[];
      out.scalar("uint32", TYPE_CODES.array);
      out.scalar("uint32", TYPE_CODES[type[0]]);
      out.scalar("uint64", BigInt(elements.length));
      for (const element of elements) out.scalar(type[0], element);
    }
  }
  let at = 0;
  for (const { name, dims, type, data, offset } of tensors) {
    out.scalar("string", name);
    out.scalar("uint32", dims.length);
    for (const size of dims) out.scalar("uint64", BigInt(size));
    out.scalar("uint32", type);
    out.scalar("uint64", BigInt(offset ?? at));
    at += Math.ceil(data.length / alignment) * alignment;
  }
  if (tensors.length > 0) out.pad(alignment);
  for (const { data } of tensors) {
    out.bytes(data);
    out.pad(alignment);
  }
  return out.take();
}

class ByteWriter {
  #bytes = new Uint8Array(1024);
  #view = new DataView(this.#bytes.buffer);
  #size = 0;

  #room(size: number): number {
    const at = this.#size;
    this.#size += size;
    if (this.#size > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(this.#size, 2 * this.#bytes.length));
      grown.set(this.#bytes);
      this.#bytes = grown;
      this.#view = new DataView(grown.buffer);
    }
    return at;
  }

  bytes(bytes: Uint8Array): void {
    const at = this.#room(bytes.length);
    this.#bytes.set(bytes, at);
  }

  pad(alignment: number): void {
    this.#room((alignment - this.#size % alignment) % alignment);
  }

  scalar(type: GgufValueType, value: GgufScalar): void {
    if (type === "string") {
      const text = new TextEncoder().encode(value as string);
      this.scalar("uint64", BigInt(text.length));
      return this.bytes(text);
    }
    const size = { uint8: 1, int8: 1, bool: 1, uint16: 2, int16: 2, uint32: 4, int32: 4, float32: 4 }[
      type as string
    ] ?? 8;
    const at = this.#room(size);
    if (type === "uint64" || type === "int64") {
      this.#view.setBigUint64(at, BigInt.asUintN(64, value as bigint), true);
    } else if (type === "float32") this.#view.setFloat32(at, value as number, true);
    else if (type === "float64") this.#view.setFloat64(at, value as number, true);
    else if (size === 1) this.#view.setUint8(at, Number(value));
    else if (size === 2) this.#view.setUint16(at, value as number, true);
    else this.#view.setUint32(at, value as number, true);
  }

  take(): Uint8Array<ArrayBuffer> {
    return this.#bytes.slice(0, this.#size);
  }
}
