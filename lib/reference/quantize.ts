/** Float32 to the element types of weights, exactly as ggml's `quantize_row_*_ref` functions round. */
import { byteSize, DTYPES, type WeightDType } from "../dtype.ts";
import { toBf16, toF16 } from "../math/half.ts";
import { emptyTensor, type TensorData } from "../tensor.ts";

/** Turns 32 values from `values[from]` on into the block at byte `at`. */
type BlockWriter = (values: Float32Array, from: number, bytes: Uint8Array, at: number) => void;

const { abs, fround } = Math;

// Every step is rounded to float32, as ggml's arithmetic is (without fused multiply-adds).
const WRITERS: { readonly [dtype in "q8_0" | "q4_0"]: BlockWriter } = {
  // d = largest / 127, q = x / d, halves away from zero
  q8_0(values, from, bytes, at) {
    let largest = 0;
    for (let i = 0; i < 32; i++) {
      if (abs(values[from + i]!) > largest) largest = abs(values[from + i]!);
    }
    const d = fround(largest / 127), inverse = d === 0 ? 0 : fround(1 / d);
    writeScale(bytes, at, d);
    for (let i = 0; i < 32; i++) {
      const q = fround(values[from + i]! * inverse);
      bytes[at + 2 + i] = q < 0 ? q - 0.5 : q + 0.5; // cut off towards zero
    }
  },

  // d = (the value farthest from 0, with its sign) / -8, q = x / d + 8, rounded
  q4_0(values, from, bytes, at) {
    let farthest = 0;
    for (let i = 0; i < 32; i++) {
      if (abs(values[from + i]!) > abs(farthest)) farthest = values[from + i]!;
    }
    const d = fround(farthest / -8), inverse = d === 0 ? 0 : fround(1 / d);
    const nibble = (i: number) => Math.min(15, Math.trunc(fround(fround(values[from + i]! * inverse) + 8.5)));
    writeScale(bytes, at, d);
    for (let i = 0; i < 16; i++) bytes[at + 2 + i] = nibble(i) | nibble(i + 16) << 4;
  },
};

function writeScale(bytes: Uint8Array, at: number, d: number): void {
  const bits = toF16(d);
  if ((bits & 0x7c00) === 0x7c00) throw new RangeError(`found a scale of ${d}, expected a float16: try bf16`);
  bytes[at] = bits & 255;
  bytes[at + 1] = bits >> 8;
}

/**
 * Values as an element type.
 *
 * @param values Finite values, for q8_0 and q4_0 a multiple of 32 of them, 32 a block.
 * @param into Takes them: an array of the type's, of just their size. Default: a fresh one; for f32 `values` itself.
 * @throws {RangeError} If they are no whole blocks, one is not finite, one (or a block's scale) is past float16, or `into`
 * has another size.
 */
export function quantize(
  values: Float32Array<ArrayBuffer>,
  dtype: WeightDType,
  into?: TensorData,
): TensorData {
  let zero = 0;
  for (let i = 0; i < values.length; i++) zero += values[i]! * 0;
  if (zero !== 0) {
    throw new RangeError(`found a value of ${values.find((x) => !Number.isFinite(x))}, expected finite ones`);
  }
  if (dtype === "f32" && into === undefined) return values;
  const out = into ?? emptyTensor(dtype, [values.length]).data, size = byteSize(dtype, values.length);
  if (out.byteLength !== size) {
    throw new RangeError(`found ${out.byteLength} bytes for the values, expected ${size}`);
  }
  switch (dtype) {
    case "f32":
      out.set(values);
      break;
    case "bf16":
      for (let i = 0; i < values.length; i++) out[i] = toBf16(values[i]!);
      break;
    case "f16": {
      for (let i = 0; i < values.length; i++) out[i] = toF16(values[i]!);
      const large = out.findIndex((bits) => (bits & 0x7c00) === 0x7c00);
      if (large >= 0) throw new RangeError(`found a value of ${values[large]}, expected a float16: try bf16`);
      break;
    }
    default: {
      const write = WRITERS[dtype], { blockBytes } = DTYPES[dtype];
      for (let from = 0, at = 0; from < values.length; from += 32, at += blockBytes) {
        write(values, from, out as Uint8Array, at);
      }
    }
  }
  return out;
}
