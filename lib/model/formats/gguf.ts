/**
 * GGUF, the model file format of ggml, versions 2 and 3 (little-endian).
 * Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
 *
 * This is an own parser because `@huggingface/gguf` reads from URLs and does not check the places of tensors in the
 * file. Its errors for a broken file name neither byte nor remedy.
 */
import { ModelFormatError } from "../../errors.ts";
import { byteSize, type DType, DTYPES } from "../../dtype.ts";
import { type ByteSource, memoryBytes } from "./_byte_source.ts";
import { type FileTensor, findOverlap, tensorAt, type TensorPlace } from "./_file_tensor.ts";
import { ByteReader } from "./_byte_reader.ts";
import { KeyedFile, type KeyType } from "./_keyed_file.ts";

/** Types of metadata values, as the format names them (in lower case); the index is the format's number. */
const VALUE_TYPES = [
  "uint8",
  "int8",
  "uint16",
  "int16",
  "uint32",
  "int32",
  "float32",
  "bool",
  "string",
  "array",
  "uint64",
  "int64",
  "float64",
] as const;

export type GgufValueType = (typeof VALUE_TYPES)[number];

/** A number, truth value or string; 64-bit integers are bigints. */
export type GgufScalar = number | bigint | boolean | string;

/** @internal One metadata value with its type in the file. */
interface GgufValue {
  readonly type: GgufValueType;
  /** Type of the elements, where `type` is "array". */
  readonly elementType?: GgufValueType;
  /** The value; arrays hold scalars of one type and are never nested. */
  readonly value: GgufScalar | readonly GgufScalar[];
  /** Byte offset of the value in the file. */
  readonly offset: number;
}

const INTEGERS = VALUE_TYPES.filter((type) => /int/.test(type));
const FLOATS = VALUE_TYPES.filter((type) => type.startsWith("float"));

/** Types of values, or of a list's elements, that a key may have. */
const ALLOWED: { readonly [T in KeyType]: readonly GgufValueType[] } = {
  "a string": ["string"],
  "true or false": ["bool"],
  "an integer": INTEGERS,
  "a number": [...FLOATS, ...INTEGERS],
  "a list of strings": ["string"],
  "a list of numbers": [...FLOATS, ...INTEGERS.filter((type) => !type.endsWith("64"))],
};

/** @internal A parsed file: metadata and tensors. The getters throw a {@linkcode ModelFormatError} that names the key. */
export class GgufFile extends KeyedFile {
  readonly file: string;
  readonly version: number;
  readonly metadata: ReadonlyMap<string, GgufValue>;
  readonly tensors: ReadonlyMap<string, FileTensor>;

  /**
   * @param metadata By key, in the file's order.
   * @param tensors By name, in the file's order: shapes row-major ([n, k], GGUF's own dimensions reversed). Data are
   * views of the file's bytes if these are in memory, otherwise they are read at each access.
   */
  constructor(
    file: string,
    version: number,
    metadata: ReadonlyMap<string, GgufValue>,
    tensors: ReadonlyMap<string, FileTensor>,
  ) {
    super();
    this.file = file;
    this.version = version;
    this.metadata = metadata;
    this.tensors = tensors;
  }

  has(key: string): boolean {
    return this.metadata.has(key);
  }

  /** All keys with their values, 64-bit integers as numbers. */
  *entries(): Generator<[key: string, value: unknown]> {
    for (const [key, { value }] of this.metadata) {
      yield [key, typeof value === "bigint" ? Number(value) : value];
    }
  }

  /** An error that names a key, and points at its value where there is one. */
  error(key: string, message: string): ModelFormatError {
    return new ModelFormatError(this.file, `"${key}": ${message}`, this.metadata.get(key)?.offset);
  }

  typed(key: string, wanted: KeyType): unknown {
    const { type, elementType, value } = this.metadata.get(key)!;
    const found = wanted.startsWith("a list") ? elementType : type;
    if (found === undefined || !ALLOWED[wanted].includes(found)) {
      const what = elementType === undefined ? type : `a list of ${elementType}`;
      throw this.error(key, `found ${what}, expected ${wanted}`);
    }
    const number = typeof value === "bigint" ? Number(value) : value;
    if (wanted === "an integer" && !Number.isSafeInteger(number)) {
      throw this.error(key, `found ${number}, expected at most 2^53 - 1`);
    }
    const numbers = wanted === "a list of numbers"
      ? value as number[]
      : wanted === "a number"
      ? [number]
      : [];
    const odd = numbers.findIndex((each) => !Number.isFinite(each));
    if (odd >= 0) {
      const place = wanted === "a number" ? "" : ` at place ${odd}`;
      throw this.error(key, `found ${numbers[odd]}${place}, expected a finite number`);
    }
    return number;
  }
}

/** Limits of a parser of untrusted bytes, with the reason for each. */
export const GGUF_LIMITS = {
  /** Known files hold fewer than 100 keys. */
  metadataEntries: 4096,
  /** The largest published models have about 2,000 tensors in all their parts. */
  tensors: 65_536,
  /** The format's own limit on a key. */
  keyBytes: 65_535,
  /** The format's own limit on a tensor's name. */
  nameBytes: 64,
  /** Chat templates, the longest strings known, stay under 100 kB. */
  stringBytes: 16 * 2 ** 20,
  /** Vocabularies reach 262,144 entries, their merge lists about twice that. */
  arrayLength: 4 * 2 ** 20,
  /** All lists together: those of a vocabulary come to four times its size. */
  arrayElements: 8 * 2 ** 20,
  /** ggml's own limit, GGML_MAX_DIMS. */
  dims: 4,
  /** Data starts at a multiple of this at most: a page is 4,096 bytes, 65,536 on some machines. */
  alignment: 65_536,
} as const;

/** Where data begins when the file does not specify another. */
const DEFAULT_ALIGNMENT = 32;

const DTYPE_OF_CODE = new Map<number, DType>(
  (Object.entries(DTYPES) as [DType, { code: number }][])
    .filter(([, { code }]) => code < 100)
    .map(([dtype, { code }]) => [code, dtype]),
);

/** Names of types that files hold and this project does not read; ggml has removed 4, 5 and 31 to 33. */
const OTHER_TENSOR_TYPES: { readonly [code: number]: string } = {
  9: "Q8_1",
  15: "Q8_K",
  16: "IQ2_XXS",
  17: "IQ2_XS",
  18: "IQ3_XXS",
  19: "IQ1_S",
  21: "IQ3_S",
  22: "IQ2_S",
  24: "I8",
  25: "I16",
  26: "I32",
  27: "I64",
  28: "F64",
  29: "IQ1_M",
  34: "TQ1_0",
  35: "TQ2_0",
  40: "NVFP4",
};

/**
 * Parses a GGUF file's bytes. Tensor data are views of `bytes` (which are copied once if they do not begin at a
 * multiple of 8 in their buffer), so do not write to them afterwards.
 *
 * @param bytes The whole file.
 * @param file Its path or URL, for messages.
 * @throws {ModelFormatError} If the bytes are not a GGUF file of version 2 or 3, break off early, hold a tensor of an
 * unknown type, or exceed {@linkcode GGUF_LIMITS}.
 *
 * @example
 * ```ts
 * import { parseGguf, resolveModel } from "@tokenfilter/tokenfilter/model";
 * const { bytes, path } = await resolveModel("tiny");
 * const gguf = parseGguf(bytes, path);
 * console.assert(gguf.string("general.architecture") === "llama");
 * console.assert(gguf.tensors.get("token_embd.weight")!.shape.join() === "4096,192");
 * ```
 */
export function parseGguf(bytes: Uint8Array<ArrayBuffer>, file: string): GgufFile {
  return readGguf(memoryBytes(bytes, file));
}

/**
 * Parses a GGUF file wherever its bytes are; tensors are read when they are asked for. See {@linkcode parseGguf}.
 *
 * @throws {ModelFormatError} If it is not such a file.
 */
export function readGguf(source: ByteSource): GgufFile {
  const reader = new ByteReader(source);
  const version = readHeader(reader);
  const numTensors = reader.count("the number of tensors", GGUF_LIMITS.tensors);
  const numEntries = reader.count("the number of metadata keys", GGUF_LIMITS.metadataEntries);

  const metadata = new Map<string, GgufValue>();
  let elements = 0;
  for (let i = 0; i < numEntries; i++) {
    const at = reader.offset;
    const key = readString(reader, `metadata key ${i}`, GGUF_LIMITS.keyBytes);
    if (metadata.has(key)) throw reader.error(`found key "${key}" twice, expected it once`, at);
    const read = readValue(reader, key, GGUF_LIMITS.arrayElements - elements);
    if (Array.isArray(read.value)) elements += read.value.length;
    metadata.set(key, read);
  }
  const alignment = alignmentOf(reader, metadata);
  return new GgufFile(source.file, version, metadata, readTensors(reader, numTensors, alignment));
}

function readHeader(reader: ByteReader): number {
  const magic = reader.first(4);
  if (String.fromCharCode(...magic) !== "GGUF") {
    const hex = [...magic].map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
    throw reader.error(`found the bytes [${hex}], expected "GGUF": pass a GGUF file`, 0);
  }
  reader.skip(4, "the magic number");
  const version = reader.u32("the version");
  if (version === 2 || version === 3) return version;
  const remedy = version === 1
    ? "convert the model again with a newer llama.cpp"
    : (version & 0xffff) === 0
    ? "this looks like a big-endian file: convert the model again without --bigendian"
    : "convert the model to version 3";
  throw reader.error(`found GGUF version ${version}, expected 2 or 3; ${remedy}`, 4);
}

function readString(reader: ByteReader, what: string, limit: number = GGUF_LIMITS.stringBytes): string {
  return reader.text(reader.count(`the length of ${what}`, limit), what);
}

function readValueType(reader: ByteReader, key: string): GgufValueType {
  const code = reader.u32(`the type of "${key}"`);
  const type = VALUE_TYPES[code];
  if (type === undefined) {
    throw reader.error(`found value type ${code} for "${key}", expected 0 to 12`, reader.offset - 4);
  }
  return type;
}

/** @param room Elements that all lists may still have. */
function readValue(reader: ByteReader, key: string, room: number): GgufValue {
  const type = readValueType(reader, key);
  if (type !== "array") return { type, offset: reader.offset, value: readScalar(reader, type, key) };

  const at = reader.offset;
  const elementType = readValueType(reader, key);
  // ggml's reader refuses nested lists as well.
  if (elementType === "array") {
    throw reader.error(`found a list of lists for "${key}", expected a flat one`, at);
  }
  const length = reader.count(`the length of "${key}"`, GGUF_LIMITS.arrayLength);
  if (length > room) {
    const most = GGUF_LIMITS.arrayElements;
    throw reader.error(
      `found ${length} elements for "${key}" and ${most - room} before, expected at most ${most}`,
      at,
    );
  }
  // Every element takes at least a byte: a longer list cannot be there, so nothing is allocated for it.
  if (length > reader.left) {
    throw reader.error(
      `found ${length} elements for "${key}" with ${reader.left} bytes left in the file`,
      at,
    );
  }
  const value: GgufScalar[] = [];
  for (let i = 0; i < length; i++) value.push(readScalar(reader, elementType, key));
  return { type, elementType, offset: at, value };
}

function readScalar(reader: ByteReader, type: Exclude<GgufValueType, "array">, key: string): GgufScalar {
  const what = `the value of "${key}"`;
  if (type === "string") return readString(reader, what);
  if (type !== "bool") return reader.number(type, what);
  const byte = reader.number("uint8", what);
  if (byte === 0 || byte === 1) return byte === 1;
  throw reader.error(`found ${byte} for "${key}", expected 0 or 1`, reader.offset - 1);
}

function alignmentOf(reader: ByteReader, metadata: ReadonlyMap<string, GgufValue>): number {
  const entry = metadata.get("general.alignment");
  if (entry === undefined) return DEFAULT_ALIGNMENT;
  const { type, value, offset } = entry;
  const power = type === "uint32" && typeof value === "number" && value >= 8 &&
    value <= GGUF_LIMITS.alignment && (value & (value - 1)) === 0;
  if (!power) {
    const expected = `expected a power of two from 8 to ${GGUF_LIMITS.alignment}`;
    throw reader.error(`found ${String(value)} for "general.alignment", ${expected}`, offset);
  }
  return value;
}

/** An entry of the list of tensors; `at` counts from the beginning of the data. */
interface Entry extends TensorPlace {
  readonly name: string;
  /** Where the entry itself is in the file. */
  readonly offset: number;
}

function readTensors(reader: ByteReader, count: number, alignment: number): Map<string, FileTensor> {
  const { source } = reader, entries = new Map<string, Entry>();
  for (let i = 0; i < count; i++) {
    const entry = readEntry(reader, i, alignment), { name, offset } = entry;
    if (entries.has(name)) throw reader.error(`found tensor "${name}" twice, expected it once`, offset);
    entries.set(name, entry);
  }
  const dataStart = Math.ceil(reader.offset / alignment) * alignment;
  for (const { name, at, size, offset } of entries.values()) {
    const end = dataStart + at + size;
    if (end <= source.size) continue;
    throw reader.error(
      `found a file of ${source.size} bytes, expected ${end} for tensor "${name}"; ` +
        "the file is cut short: get it again",
      offset,
    );
  }
  const [outer, inner] = findOverlap([...entries.values()]) ?? [];
  if (inner !== undefined) {
    throw reader.error(
      `found tensor "${inner.name}" inside tensor "${outer!.name}", expected it after`,
      inner.offset,
    );
  }
  return new Map(Array.from(entries, ([name, { dtype, shape, at, size }]) => {
    return [name, tensorAt(source, { dtype, shape, at: dataStart + at, size })];
  }));
}

function readEntry(reader: ByteReader, index: number, alignment: number): Entry {
  const { offset } = reader;
  const name = readString(reader, `the name of tensor ${index}`, GGUF_LIMITS.nameBytes);
  const what = `tensor "${name}"`;
  const numDims = reader.u32(`the dimensions of ${what}`);
  if (numDims < 1 || numDims > GGUF_LIMITS.dims) {
    throw reader.error(`found ${numDims} dimensions for ${what}, expected 1 to ${GGUF_LIMITS.dims}`, offset);
  }
  const shape: number[] = [];
  let values = 1;
  for (let i = 0; i < numDims; i++) {
    const size = reader.count(`dimension ${i} of ${what}`, Number.MAX_SAFE_INTEGER);
    values *= size;
    if (size === 0 || values > Number.MAX_SAFE_INTEGER) {
      throw reader.error(
        `found dimension ${size} for ${what}, expected 1 or more and under 2^53 values in all`,
        offset,
      );
    }
    shape.unshift(size);
  }
  const dtype = readTensorType(reader, what), row = shape.at(-1)!, { blockSize } = DTYPES[dtype];
  if (row % blockSize !== 0) {
    throw reader.error(
      `found rows of ${row} for ${what}, expected a multiple of ${dtype}'s block of ${blockSize}`,
      offset,
    );
  }
  const at = reader.count(`the offset of ${what}`, Number.MAX_SAFE_INTEGER);
  if (at % alignment !== 0) {
    throw reader.error(
      `found offset ${at} for ${what}, expected a multiple of ${alignment}`,
      reader.offset - 8,
    );
  }
  return { name, dtype, shape, at, size: byteSize(dtype, values), offset };
}

function readTensorType(reader: ByteReader, what: string): DType {
  const code = reader.u32(`the type of ${what}`), dtype = DTYPE_OF_CODE.get(code);
  if (dtype !== undefined) return dtype;
  const known = Array.from(DTYPE_OF_CODE.values(), (name) => name.toUpperCase()).join(", ");
  const found = OTHER_TENSOR_TYPES[code] ?? "unknown";
  throw reader.error(
    `found type ${code} (${found}) for ${what}, expected one of ${known}; quantise the model to one of these`,
    reader.offset - 4,
  );
}

/** Files of a model that llama.cpp's gguf-split has written: `name-00001-of-00003.gguf`, … */
const PART = /-(\d{5})-of-(\d{5})(\.gguf)$/i;

/** Keys that describe how a model was split. */
const NUMBER = "split.no", COUNT = "split.count", TENSORS = "split.tensors.count";

/**
 * Paths of all parts of a model, where a path is the first one's; undefined where it is no part's.
 *
 * @throws {ModelFormatError} If the path is of another part than the first.
 */
export function partPaths(path: string): string[] | undefined {
  const [, number, count, end] = PART.exec(path) ?? [];
  if (count === undefined || Number(count) < 1) return undefined;
  if (Number(number) !== 1) {
    const first = path.replace(PART, `-00001-of-${count}${end}`);
    throw new ModelFormatError(
      path,
      `found part ${Number(number)} of a model, expected the first: "${first}"`,
    );
  }
  return Array.from(
    { length: Number(count) },
    (_, i) => path.replace(PART, `-${`${i + 1}`.padStart(5, "0")}-of-${count}${end}`),
  );
}

/**
 * Parses a model of one or several files: metadata of the first, tensors of all.
 *
 * @throws {ModelFormatError} If a file is broken, is not the part that its place requires, or two have the same tensor.
 */
export function readGgufParts(sources: readonly ByteSource[]): GgufFile {
  const parts = sources.map(readGguf), [first] = parts as [GgufFile];
  if (sources.length === 1 && first.integer(COUNT, 1) === 1) return first;
  const tensors = new Map<string, FileTensor>();
  for (const [i, part] of parts.entries()) {
    for (const [key, want] of [[COUNT, parts.length], [NUMBER, i]] as const) {
      const found = part.integer(key);
      if (found !== want) {
        throw part.error(
          key,
          `found ${found}, expected ${want}: the files are named name-00001-of-0000N.gguf, …`,
        );
      }
    }
    for (const [name, tensor] of part.tensors) {
      if (tensors.has(name)) {
        throw new ModelFormatError(part.file, `found tensor "${name}" in two parts, expected it in one`);
      }
      tensors.set(name, tensor);
    }
  }
  const total = first.integer(TENSORS, tensors.size);
  if (total !== tensors.size) {
    throw first.error(TENSORS, `found ${total}, expected ${tensors.size} as the parts have: get them again`);
  }
  const metadata = new Map<string, GgufValue>(
    [...first.metadata].filter(([key]) => !key.startsWith("split.")),
  );
  return new GgufFile(first.file, first.version, metadata, tensors);
}
