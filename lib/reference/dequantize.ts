/** Stored weights to float32, exactly as ggml's `dequantize_row_*` functions define it. */
import { DTYPES, type QuantDType } from "../dtype.ts";
import { fromBf16, fromF16 } from "../math/half.ts";
import { countOf, hostData, type HostTensor } from "../tensor.ts";

/** Turns one block at byte `at` into values from `out[to]` on. */
type BlockReader = (bytes: Uint8Array, at: number, out: Float32Array, to: number) => void;

const f16At = (bytes: Uint8Array, at: number): number => fromF16(bytes[at]! | (bytes[at + 1]! << 8));
const i8At = (bytes: Uint8Array, at: number): number => (bytes[at]! << 24) >> 24;

// In all of these a product of a 16-bit float and small integers is exact in float64 and in float32. So storing the
// float64 result rounds once, where ggml's float32 arithmetic rounds too.
const READERS: { readonly [K in QuantDType]: BlockReader } = {
  // d, 16 bytes of nibbles: low nibbles are values 0..15, high ones 16..31; value = d (q - 8)
  q4_0: (bytes, at, out, to) => readNumbers(Q4, bytes, at + 2, out, to, f16At(bytes, at)),

  // d, m, nibbles; value = d q + m
  q4_1(bytes, at, out, to) {
    const d = f16At(bytes, at), m = f16At(bytes, at + 2);
    for (let i = 0; i < 16; i++) {
      const pair = bytes[at + 4 + i]!;
      out[to + i] = d * (pair & 15) + m;
      out[to + i + 16] = d * (pair >> 4) + m;
    }
  },

  // d, 4 bytes with the fifth bit of each value, nibbles; value = d (q - 16)
  q5_0(bytes, at, out, to) {
    const d = f16At(bytes, at);
    for (let i = 0; i < 16; i++) {
      const pair = bytes[at + 6 + i]!;
      out[to + i] = d * (((pair & 15) | fifthBit(bytes, at + 2, i)) - 16);
      out[to + i + 16] = d * (((pair >> 4) | fifthBit(bytes, at + 2, i + 16)) - 16);
    }
  },

  // d, m, fifth bits, nibbles; value = d q + m
  q5_1(bytes, at, out, to) {
    const d = f16At(bytes, at), m = f16At(bytes, at + 2);
    for (let i = 0; i < 16; i++) {
      const pair = bytes[at + 8 + i]!;
      out[to + i] = d * ((pair & 15) | fifthBit(bytes, at + 4, i)) + m;
      out[to + i + 16] = d * ((pair >> 4) | fifthBit(bytes, at + 4, i + 16)) + m;
    }
  },

  // d, 32 signed bytes; value = d q
  q8_0(bytes, at, out, to) {
    const d = f16At(bytes, at);
    for (let i = 0; i < 32; i++) out[to + i] = d * i8At(bytes, at + 2 + i);
  },

  // 16 bytes of a scale and a minimum, 64 bytes of pairs of bits, d, dmin; value = d scale q - dmin min
  q2_k(bytes, at, out, to) {
    const d = f16At(bytes, at + 80), dmin = f16At(bytes, at + 82);
    for (let i = 0; i < 256; i++) {
      const both = bytes[at + (i >> 4)]!;
      const q = bytes[at + 16 + (i >> 7) * 32 + (i & 31)]! >> (2 * ((i >> 5) & 3)) & 3;
      out[to + i] = d * (both & 15) * q - dmin * (both >> 4);
    }
  },

  // 32 bytes of third bits, 64 bytes of pairs, 16 scales of 6 bits, d; value = d (scale - 32) (q - 4 without the bit)
  q3_k(bytes, at, out, to) {
    const d = f16At(bytes, at + 108);
    for (let i = 0; i < 256; i++) {
      const part = i >> 4, low = bytes[at + 96 + (part & 7)]! >> (part >> 3) * 4 & 15;
      const scale = low | (bytes[at + 104 + (part & 3)]! >> (part >> 2) * 2 & 3) << 4;
      const q = bytes[at + 32 + (i >> 7) * 32 + (i & 31)]! >> (2 * ((i >> 5) & 3)) & 3;
      const has = bytes[at + (i & 31)]! >> (i >> 5) & 1;
      out[to + i] = d * (scale - 32) * (q - (has === 1 ? 0 : 4));
    }
  },

  // d, dmin, 12 bytes with eight 6-bit scales and minima, 128 bytes of nibbles. Each run of 32 bytes holds 32 values in
  // its low nibbles and the next 32 in its high ones; value = d scale q - dmin min
  q4_k(bytes, at, out, to) {
    const d = f16At(bytes, at), dmin = f16At(bytes, at + 2);
    for (let part = 0; part < 8; part++) {
      const [scale, min] = scaleAndMin(bytes, at + 4, part);
      const shift = (part & 1) * 4, from = at + 16 + (part >> 1) * 32;
      for (let i = 0; i < 32; i++) {
        out[to + part * 32 + i] = d * scale * ((bytes[from + i]! >> shift) & 15) - dmin * min;
      }
    }
  },

  // the same with 32 bytes of fifth bits before the nibbles: bit `part` of each belongs to that part
  q5_k(bytes, at, out, to) {
    const d = f16At(bytes, at), dmin = f16At(bytes, at + 2);
    for (let i = 0; i < 256; i++) {
      const part = i >> 5, [scale, min] = scaleAndMin(bytes, at + 4, part);
      const low = bytes[at + 48 + (part >> 1) * 32 + (i & 31)]! >> (part & 1) * 4 & 15;
      out[to + i] = d * scale * (low | (bytes[at + 16 + (i & 31)]! >> part & 1) << 4) - dmin * min;
    }
  },

  // 128 bytes of low nibbles, 64 bytes of upper pairs of bits, 16 signed scales, d; value = d scale (q - 32)
  q6_k(bytes, at, out, to) {
    const d = f16At(bytes, at + 208);
    for (let i = 0; i < 256; i++) {
      const half = i >> 7, run = (i >> 5) & 3, j = i & 31;
      const low = bytes[at + half * 64 + (run & 1) * 32 + j]! >> ((run >> 1) * 4);
      const high = bytes[at + 128 + half * 32 + j]! >> (run * 2);
      out[to + i] = d * i8At(bytes, at + 192 + (i >> 4)) * (((low & 15) | ((high & 3) << 4)) - 32);
    }
  },

  // d, 16 bytes of nibbles; value = d number(q)
  iq4_nl: (bytes, at, out, to) => readNumbers(IQ4, bytes, at + 2, out, to, f16At(bytes, at)),

  // d, high pairs of bits of 8 scales, their nibbles, 128 bytes of nibbles; value = d (scale - 32) number(q)
  iq4_xs(bytes, at, out, to) {
    const d = f16At(bytes, at), high = bytes[at + 2]! | bytes[at + 3]! << 8;
    for (let part = 0; part < 8; part++) {
      const low = bytes[at + 4 + (part >> 1)]! >> (part & 1) * 4 & 15,
        scale = low | (high >> 2 * part & 3) << 4;
      readNumbers(IQ4, bytes, at + 8 + 16 * part, out, to + 32 * part, d * (scale - 32));
    }
  },

  // an exponent e, 16 bytes of nibbles; value = 2^(e - 127) number(q), of which the table has twice
  mxfp4: (bytes, at, out, to) => readNumbers(FP4, bytes, at + 1, out, to, 2 ** (bytes[at]! - 128)),
};

/** Values of nibbles in q4_0, in the IQ4 types and in MXFP4 (there twice the value). */
const Q4 = Array.from({ length: 16 }, (_, nibble) => nibble - 8);
const IQ4 = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
const FP4 = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/** 16 bytes of nibbles, low ones first: each is an index into `numbers`, whose entry is multiplied by a factor. */
function readNumbers(
  numbers: readonly number[],
  bytes: Uint8Array,
  at: number,
  out: Float32Array,
  to: number,
  factor: number,
): void {
  for (let i = 0; i < 16; i++) {
    out[to + i] = factor * numbers[bytes[at + i]! & 15]!;
    out[to + i + 16] = factor * numbers[bytes[at + i]! >> 4]!;
  }
}

function fifthBit(bytes: Uint8Array, at: number, i: number): number {
  return ((bytes[at + (i >> 3)]! >> (i & 7)) & 1) << 4;
}

function scaleAndMin(bytes: Uint8Array, at: number, part: number): [number, number] {
  if (part < 4) return [bytes[at + part]! & 63, bytes[at + part + 4]! & 63];
  const low = bytes[at + part + 4]!;
  return [(low & 15) | ((bytes[at + part - 4]! >> 6) << 4), (low >> 4) | ((bytes[at + part]! >> 6) << 4)];
}

/**
 * Values [start, start + count) of a stored tensor, in row-major order, as float32.
 *
 * Formulas: ggml's `ggml-quants.c`, result for result. f32 comes back as a view of the tensor's own values: read it,
 * do not write it. Every other type is a fresh array, or a view of the beginning of `into`.
 *
 * @param start Counted over the whole tensor; as `count` a multiple of the type's block.
 * @throws {TypeError} If the tensor is f64, i32 or u8.
 * @throws {RangeError} If the range is not whole blocks within the tensor, or `into` is shorter.
 */
export function dequantize(
  tensor: HostTensor,
  start: number,
  count: number,
  into?: Float32Array<ArrayBuffer>,
): Float32Array<ArrayBuffer> {
  const { dtype } = tensor, data = hostData(tensor), { blockSize, blockBytes } = DTYPES[dtype];
  const total = countOf(tensor.shape);
  const whole = (n: number) => Number.isInteger(n / blockSize) && n >= 0;
  if (!whole(start) || !whole(count) || start + count > total) {
    throw new RangeError(
      `Cannot dequantise values [${start}, ${start + count}) of ${total}: ` +
        `expected a range inside the tensor, in multiples of ${blockSize}`,
    );
  }
  if (into !== undefined && into.length < count) {
    throw new RangeError(`Cannot dequantise ${count} values into ${into.length}: expected as many at least`);
  }
  if (dtype === "f32") return data.subarray(start, start + count) as Float32Array<ArrayBuffer>;
  if (dtype === "f64" || dtype === "i32" || dtype === "u8") {
    throw new TypeError(`Cannot dequantise a ${dtype} tensor: expected f32, f16, bf16 or a quantised type`);
  }

  const out = into?.subarray(0, count) ?? new Float32Array(count);
  if (dtype === "f16" || dtype === "bf16") {
    const read = dtype === "f16" ? fromF16 : fromBf16;
    for (let i = 0; i < count; i++) out[i] = read(data[start + i]!);
    return out;
  }
  const bytes = data as Uint8Array, read = READERS[dtype];
  let at = (start / blockSize) * blockBytes;
  for (let to = 0; to < count; to += blockSize, at += blockBytes) read(bytes, at, out, to);
  return out;
}
