/**
 * Safetensors: a JSON header and raw little-endian values. Read for dumps of keys and values from other engines.
 * Layout: https://github.com/huggingface/safetensors#format
 */
import { byteSize, type DType } from "../../dtype.ts";
import { ModelFormatError } from "../../errors.ts";
import { countOf, type HostTensor } from "../../tensor.ts";
import { type ByteSource, memoryBytes } from "./_byte_source.ts";
import { type FileTensor, findOverlap, tensorAt, type TensorPlace } from "./_file_tensor.ts";
import { isObject } from "./_keyed_file.ts";

/** Limits of a parser of untrusted bytes, with the reason for each. */
const SAFETENSORS_LIMITS = {
  /** The format's own limit on the header. */
  headerBytes: 100_000_000,
  /** A dump holds a handful; whole models of many layers hold a few thousand. */
  tensors: 65_536,
  /** PyTorch allows 64, no known tensor has more than 8. */
  dims: 8,
} as const;

const DTYPE_OF_NAME: { readonly [name: string]: DType } = { F32: "f32", F16: "f16", BF16: "bf16" };
const NAME_OF_DTYPE: { readonly [K in DType]?: string } = { f32: "F32", f16: "F16", bf16: "BF16" };

/** @internal A parsed file. */
export interface SafetensorsFile {
  /** Tensors by name; data are views of the file's bytes where these are aligned, else copies. */
  readonly tensors: ReadonlyMap<string, FileTensor>;
  /** Names of all tensors of the file, wanted or not. */
  readonly names: readonly string[];
  /** The header's `__metadata__`: free text. */
  readonly metadata: ReadonlyMap<string, string>;
}

/** Where a tensor lies among the data, which begin behind the header. */
type Place = TensorPlace & { readonly name: string };

/**
 * Parses a safetensors file's bytes.
 *
 * @param bytes The whole file.
 * @param file Its path, for messages.
 * @param names The tensors wanted; the others may be of any type. All by default.
 * @throws {ModelFormatError} If the bytes are no such file, break off early, hold a wanted tensor that is not F32, F16
 * or BF16, or lack one of `names`; the message names the tensor.
 *
 * @example
 * ```ts
 * import { hostTensor } from "@tokenfilter/tokenfilter";
 * import { parseSafetensors, writeSafetensors } from "@tokenfilter/tokenfilter/model";
 * const keys = hostTensor("f32", [2, 1, 4], new Float32Array(8));
 * const bytes = writeSafetensors(new Map([["keys", keys]]));
 * console.assert(parseSafetensors(bytes, "dump").tensors.get("keys")!.shape[2] === 4);
 * ```
 */
export function parseSafetensors(
  bytes: Uint8Array<ArrayBuffer>,
  file: string,
  names?: readonly string[],
): SafetensorsFile {
  return readSafetensors(memoryBytes(bytes, file), names);
}

/**
 * Parses a file wherever its bytes are; tensors are read when they are asked for. See {@linkcode parseSafetensors}.
 *
 * @throws {ModelFormatError} If it is not such a file.
 */
export function readSafetensors(source: ByteSource, names?: readonly string[]): SafetensorsFile {
  const { file } = source, { header, dataStart } = readHeader(source);
  const metadata = readMetadata(header, file);
  const entries = Object.entries(header).filter(([name]) => name !== "__metadata__");
  if (entries.length > SAFETENSORS_LIMITS.tensors) {
    const expected = `expected at most ${SAFETENSORS_LIMITS.tensors}`;
    throw new ModelFormatError(file, `found ${entries.length} tensors, ${expected}`);
  }
  for (const name of names ?? []) {
    if (!Object.hasOwn(header, name)) {
      const found = entries.slice(0, 8).map(([other]) => `"${other}"`).join(", ") || "none";
      const expected = `expected it next to those there: ${found}`;
      throw new ModelFormatError(file, `found no tensor "${name}", ${expected}`);
    }
  }
  const places = entries
    .filter(([name]) => names === undefined || names.includes(name))
    .map(([name, entry]) => readPlace(name, entry, source.size - dataStart, file));
  const [outer, inner] = findOverlap(places) ?? [];
  if (inner !== undefined) {
    throw new ModelFormatError(file, `found tensor "${inner.name}" inside "${outer!.name}"`);
  }
  const tensors = new Map(
    places.map(({ name, at, ...rest }) => [name, tensorAt(source, { ...rest, at: dataStart + at })]),
  );
  return { tensors, names: entries.map(([name]) => name), metadata };
}

function readHeader(source: ByteSource) {
  const { file } = source;
  if (source.size < 8) {
    throw new ModelFormatError(file, `found ${source.size} bytes, expected a safetensors file`, 0);
  }
  const first = source.read(0, 8), size = new DataView(first.buffer, first.byteOffset).getBigUint64(0, true);
  const limit = Math.min(SAFETENSORS_LIMITS.headerBytes, source.size - 8);
  if (size > BigInt(limit)) {
    throw new ModelFormatError(
      file,
      `found a header of ${size} bytes, expected at most ${limit}: no safetensors file, or cut short`,
      0,
    );
  }
  const dataStart = 8 + Number(size);
  let header: unknown;
  try {
    header = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(source.read(8, dataStart - 8)));
  } catch {
    throw new ModelFormatError(file, "found a header that is no JSON text: no safetensors file", 8);
  }
  if (!isObject(header)) {
    throw new ModelFormatError(file, "found a header that is no JSON object: no safetensors file", 8);
  }
  return { header, dataStart };
}

function readMetadata(header: Record<string, unknown>, file: string): Map<string, string> {
  const metadata = header["__metadata__"] ?? {};
  if (!isObject(metadata) || !Object.values(metadata).every((value) => typeof value === "string")) {
    throw new ModelFormatError(file, 'found "__metadata__" that is no object of strings, expected one', 8);
  }
  return new Map(Object.entries(metadata as Record<string, string>));
}

function readPlace(name: string, entry: unknown, dataSize: number, file: string): Place {
  const fail = (message: string) => new ModelFormatError(file, `tensor "${name}": ${message}`);
  const { dtype: type, shape, data_offsets: offsets } = (entry ?? {}) as Record<string, unknown>;
  const isSize = (n: unknown): n is number => Number.isSafeInteger(n) && (n as number) >= 0;

  if (typeof type !== "string" || !Object.hasOwn(DTYPE_OF_NAME, type)) {
    throw fail(`found type ${JSON.stringify(type)}, expected F32, F16 or BF16`);
  }
  if (!Array.isArray(shape) || shape.length > SAFETENSORS_LIMITS.dims || !shape.every(isSize)) {
    const found = JSON.stringify(shape)?.slice(0, 100);
    throw fail(`found shape ${found}, expected at most ${SAFETENSORS_LIMITS.dims} sizes`);
  }
  const count = countOf(shape);
  if (!Number.isSafeInteger(count)) throw fail(`found shape [${shape}], expected under 2^53 values in all`);
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isSize)) {
    throw fail(`found data_offsets ${JSON.stringify(offsets)?.slice(0, 100)}, expected [begin, end]`);
  }
  const [begin, end] = offsets as [number, number];
  const dtype = DTYPE_OF_NAME[type]!, size = byteSize(dtype, count);
  if (end - begin !== size) throw fail(`found ${end - begin} bytes, expected ${size} for ${type} [${shape}]`);
  if (end > dataSize) {
    throw fail(
      `found ${dataSize} bytes of data in the file, expected ${end}; the file is cut short: write it again`,
    );
  }
  return { name, dtype, shape, at: begin, size };
}

/**
 * Bytes of a safetensors file with these tensors, aligned to 8 bytes.
 *
 * @param tensors f32, f16 or bf16 tensors by name.
 * @param metadata Free text for the header's `__metadata__`.
 * @throws {TypeError} If a tensor is of another type.
 */
export function writeSafetensors(
  tensors: ReadonlyMap<string, HostTensor>,
  metadata: ReadonlyMap<string, string> = new Map(),
): Uint8Array<ArrayBuffer> {
  const header: [string, unknown][] = metadata.size > 0
    ? [["__metadata__", Object.fromEntries(metadata)]]
    : [];
  let size = 0;
  for (const [name, { dtype, shape, data }] of tensors) {
    const type = NAME_OF_DTYPE[dtype];
    if (type === undefined) {
      throw new TypeError(`Cannot write tensor "${name}": found ${dtype}, expected f32, f16 or bf16`);
    }
    header.push([name, { dtype: type, shape, data_offsets: [size, size + data.byteLength] }]);
    size += data.byteLength;
  }
  const text = new TextEncoder().encode(JSON.stringify(Object.fromEntries(header)));
  const headerSize = Math.ceil(text.length / 8) * 8;
  const bytes = new Uint8Array(8 + headerSize + size);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(headerSize), true);
  bytes.fill(0x20, 8, 8 + headerSize);
  bytes.set(text, 8);
  let at = 8 + headerSize;
  for (const { data } of tensors.values()) {
    bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), at);
    at += data.byteLength;
  }
  return bytes;
}
