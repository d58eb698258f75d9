/** Helpers of the tests of native ops: seeded inputs, distances. */
import { type DType, DTYPES } from "../../lib/dtype.ts";
import { countOf, type HostTensor, hostTensor } from "../../lib/tensor.ts";

/** A stream of numbers in [-1, 1) (xorshift32). */
export function numbers(seed: number): () => number {
  let state = (seed * 2654435761 + 1) >>> 0 || 1;
  return () => {
    state ^= state << 13;
    state >>>= 0;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state / 2 ** 31 - 1;
  };
}

/** An f32 tensor of `next`'s numbers; every 97th is an outlier, a hundred times as large. */
export function randomTensor(shape: readonly number[], next: () => number): HostTensor {
  const data = Float32Array.from({ length: countOf(shape) }, (_, i) => next() * (i % 97 === 13 ? 100 : 1));
  return hostTensor("f32", shape, data);
}

/** Bit pattern of an f16 about `scale` large, of either sign. */
function halfBits(scale: number, next: () => number): number {
  return new Uint16Array(new Float16Array([scale * (next() + Math.sign(next()))]).buffer)[0]!;
}

/** Where the f16 scales of a block lie. */
const SCALES: { readonly [dtype: string]: readonly number[] } = {
  q4_0: [0],
  q4_1: [0, 2],
  q5_0: [0],
  q5_1: [0, 2],
  q8_0: [0],
  q2_k: [80, 82],
  q3_k: [108],
  q4_k: [0, 2],
  q5_k: [0, 2],
  q6_k: [208],
  iq4_nl: [0],
  iq4_xs: [0],
  mxfp4: [],
};

/** A tensor of any weight type with random bits, finite scales, and its middle row all zero bytes. */
export function randomWeight(dtype: DType, shape: readonly [number, number], next: () => number): HostTensor {
  const [rows, cols] = shape;
  if (dtype === "f32") return randomTensor(shape, next);
  if (dtype === "f16" || dtype === "bf16") {
    const bits = Uint16Array.from({ length: rows * cols }, () => {
      return dtype === "f16"
        ? halfBits(0.5, next)
        : new Uint32Array(new Float32Array([next()]).buffer)[0]! >>> 16;
    });
    return hostTensor(dtype, shape, bits);
  }
  const { blockSize, blockBytes } = DTYPES[dtype];
  const bytes = Uint8Array.from({ length: rows * cols / blockSize * blockBytes }, () => (next() + 1) * 128);
  const view = new DataView(bytes.buffer);
  for (let at = 0; at < bytes.length; at += blockBytes) {
    if (dtype === "mxfp4") bytes[at] = 116 + bytes[at]! % 8; // an exponent about that of 0.01
    for (const scale of SCALES[dtype]!) view.setUint16(at + scale, halfBits(0.01, next), true);
  }
  const rowBytes = bytes.length / Math.max(rows, 1);
  const middle = Math.floor(rows / 2);
  bytes.fill(0, middle * rowBytes, (middle + 1) * rowBytes);
  return hostTensor(dtype, shape, bytes);
}

/** Quantised weights of which a block of row 1 has an infinite factor. */
export function withInfinity(weight: HostTensor): HostTensor {
  const { blockSize, blockBytes } = DTYPES[weight.dtype],
    data = (weight.data as Uint8Array<ArrayBuffer>).slice();
  const at = weight.shape[1]! / blockSize * blockBytes, scale = SCALES[weight.dtype]![0];
  if (scale !== undefined) new DataView(data.buffer).setUint16(at + scale, 0x7c00, true);
  else data.set([255, ...Array(blockBytes - 1).fill(0x77)], at); // mxfp4: 6 times 2 to the power of 128
  return { ...weight, data } as HostTensor;
}

/** A tensor that a test fills: NaN everywhere, so that a value that was not written shows. */
export function unwritten(shape: readonly number[]): HostTensor {
  return hostTensor("f32", shape, new Float32Array(countOf(shape)).fill(NaN));
}

/** Fails unless |found - expected| <= relative * size(i) + 1e-30 everywhere; NaN equals NaN only. */
export function assertNear(
  found: ArrayLike<number>,
  expected: ArrayLike<number>,
  relative: number,
  what: string,
  size: (i: number) => number = (i) => Math.abs(expected[i]!),
): void {
  if (found.length !== expected.length) {
    throw new Error(`${what}: found ${found.length} values, expected ${expected.length}`);
  }
  for (let i = 0; i < found.length; i++) {
    const f = found[i]!, e = expected[i]!;
    if (Object.is(f, e) || f === e) continue;
    const allowed = relative * size(i) + 1e-30;
    if (!(Math.abs(f - e) <= allowed)) {
      throw new Error(`${what}: found ${f} at ${i}, expected ${e} within ${allowed}`);
    }
  }
}
