/**
 * Element types that files hold and kernels do not take: each becomes another one when a file is read. Blocks of 32 with
 * one scale fit into q8_0 without a loss; the others become f16, which rounds each value by less than 2^-11 of it.
 */
import { byteSize, DTYPES } from "../../dtype.ts";
import { fromF16, toF16 } from "../../half.ts";
import { countOf, type HostTensor, hostTensor, type TensorData } from "../../tensor.ts";

/** Turns one block at byte `at` into values from `out[to]` on. */
type BlockReader = (bytes: Uint8Array, at: number, out: Float32Array, to: number) => void;

/** A type of a file. */
export interface StoredType {
  /** Its name, as ggml writes it. */
  readonly name: string;
  /** Values of a block. */
  readonly blockSize: number;
  /** Bytes of a block. */
  readonly blockBytes: number;
  /** What it becomes. */
  readonly dtype: "f16" | "q8_0";
  /** Its values; for q8_0 the integers, whose scale is `scale`. */
  readonly read: BlockReader;
  /** The scale of a block that becomes q8_0. */
  readonly scale?: (bytes: Uint8Array, at: number) => number;
}

const f16At = (bytes: Uint8Array, at: number): number => fromF16(bytes[at]! | (bytes[at + 1]! << 8));

/** What nibbles stand for in the IQ4 types and in MXFP4 (there twice the value). */
const IQ4 = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
const FP4 = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/** 16 bytes of nibbles, low ones first, by a table and a factor. */
function readNibbles(
  table: readonly number[],
  bytes: Uint8Array,
  at: number,
  out: Float32Array,
  to: number,
  factor = 1,
) {
  for (let i = 0; i < 16; i++) {
    out[to + i] = factor * table[bytes[at + i]! & 15]!;
    out[to + i + 16] = factor * table[bytes[at + i]! >> 4]!;
  }
}

/** The types, by their number in GGUF. Layouts and formulas: ggml's `ggml-quants.c`. */
export const STORED_TYPES: ReadonlyMap<number, StoredType> = new Map<number, StoredType>([
  [10, {
    name: "Q2_K",
    blockSize: 256,
    blockBytes: 84,
    dtype: "f16",
    // 16 bytes of a scale and a minimum, 64 bytes of pairs of bits, d, dmin; value = d scale q - dmin min
    read(bytes, at, out, to) {
      const d = f16At(bytes, at + 80), dmin = f16At(bytes, at + 82);
      for (let i = 0; i < 256; i++) {
        const both = bytes[at + (i >> 4)]!,
          q = bytes[at + 16 + (i >> 7) * 32 + (i & 31)]! >> (2 * ((i >> 5) & 3)) & 3;
        out[to + i] = d * (both & 15) * q - dmin * (both >> 4);
      }
    },
  }],
  [11, {
    name: "Q3_K",
    blockSize: 256,
    blockBytes: 110,
    dtype: "f16",
    // 32 bytes of third bits, 64 bytes of pairs, 16 scales of 6 bits, d; value = d (scale - 32) (q - 4 without the bit)
    read(bytes, at, out, to) {
      const d = f16At(bytes, at + 108);
      for (let i = 0; i < 256; i++) {
        const part = i >> 4, low = bytes[at + 96 + (part & 7)]! >> (part >> 3) * 4 & 15;
        const scale = low | (bytes[at + 104 + (part & 3)]! >> (part >> 2) * 2 & 3) << 4;
        const q = bytes[at + 32 + (i >> 7) * 32 + (i & 31)]! >> (2 * ((i >> 5) & 3)) & 3;
        const has = bytes[at + (i & 31)]! >> (i >> 5) & 1;
        out[to + i] = d * (scale - 32) * (q - (has === 1 ? 0 : 4));
      }
    },
  }],
  [13, {
    name: "Q5_K",
    blockSize: 256,
    blockBytes: 176,
    dtype: "f16",
    // d, dmin, scales and minima as in q4_k, 32 bytes of fifth bits, 128 bytes of nibbles; value = d scale q - dmin min
    read(bytes, at, out, to) {
      const d = f16At(bytes, at), dmin = f16At(bytes, at + 2);
      for (let i = 0; i < 256; i++) {
        const part = i >> 5, j = part & 3, first = bytes[at + 4 + j]!, second = bytes[at + 8 + j]!;
        const rest = bytes[at + 12 + j]!;
        const scale = part < 4 ? first & 63 : (rest & 15) | (first >> 6) << 4;
        const min = part < 4 ? second & 63 : (rest >> 4) | (second >> 6) << 4;
        const low = bytes[at + 48 + (part >> 1) * 32 + (i & 31)]! >> (part & 1) * 4 & 15;
        const q = low | (bytes[at + 16 + (i & 31)]! >> part & 1) << 4;
        out[to + i] = d * scale * q - dmin * min;
      }
    },
  }],
  [20, {
    name: "IQ4_NL",
    blockSize: 32,
    blockBytes: 18,
    dtype: "q8_0",
    scale: f16At,
    read: (bytes, at, out, to) => readNibbles(IQ4, bytes, at + 2, out, to),
  }],
  [23, {
    name: "IQ4_XS",
    blockSize: 256,
    blockBytes: 136,
    dtype: "f16",
    // d, high pairs of bits of 8 scales, their nibbles, then 128 bytes of nibbles; value = d (scale - 32) table[q]
    read(bytes, at, out, to) {
      const d = f16At(bytes, at), high = bytes[at + 2]! | bytes[at + 3]! << 8;
      for (let part = 0; part < 8; part++) {
        const low = bytes[at + 4 + (part >> 1)]! >> (part & 1) * 4 & 15,
          scale = low | (high >> 2 * part & 3) << 4;
        readNibbles(IQ4, bytes, at + 8 + 16 * part, out, to + 32 * part, d * (scale - 32));
      }
    },
  }],
  [39, {
    name: "MXFP4",
    blockSize: 32,
    blockBytes: 17,
    dtype: "q8_0",
    // Half of the table's values, hence 128 in place of 127.
    scale: (bytes, at) => 2 ** (bytes[at]! - 128),
    read: (bytes, at, out, to) => readNibbles(FP4, bytes, at + 1, out, to),
  }],
]);

/**
 * A stored tensor's bytes as the type that it becomes.
 *
 * @throws {RangeError} If a scale is too large for q8_0, which none of a trained model is.
 */
export function convertStored(type: StoredType, bytes: Uint8Array, shape: readonly number[]): HostTensor {
  const { blockSize, blockBytes, dtype, read, scale } = type, count = countOf(shape);
  const values = new Float32Array(blockSize), blocks = count / blockSize;
  const data: TensorData = dtype === "f16" ? new Uint16Array(count) : new Uint8Array(byteSize(dtype, count));
  for (let block = 0; block < blocks; block++) {
    read(bytes, block * blockBytes, values, 0);
    if (scale === undefined) {
      for (let i = 0; i < blockSize; i++) data[block * blockSize + i] = toF16(values[i]!);
      continue;
    }
    const at = block * DTYPES.q8_0.blockBytes, d = toF16(scale(bytes, block * blockBytes));
    if (!Number.isFinite(fromF16(d))) {
      throw new RangeError(`found a scale of ${fromF16(d)}, expected a float16`);
    }
    data[at] = d & 255;
    data[at + 1] = d >> 8;
    for (let i = 0; i < blockSize; i++) data[at + 2 + i] = values[i]!;
  }
  return hostTensor(dtype, shape, data);
}
