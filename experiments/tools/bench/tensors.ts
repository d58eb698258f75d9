/** Random tensors for the cases, and the comparison of results. */
import type { Backend } from "../../../lib/backend.ts";
import { toBf16, toF16 } from "../../../lib/math/half.ts";
import { emptyTensor, type HostTensor, hostTensor, type Tensor } from "../../../lib/tensor.ts";

/** Element types of activations and caches. */
export type FloatType = "f32" | "f16" | "bf16";

/** Values that are drawn; larger tensors repeat them. */
const DRAWN = 2 ** 20;

/** Numbers in [-1, 1), the same on every run. */
export function numbers(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  };
}

/** Fills an array with copies of its first `count` elements. */
export function repeatFirst(data: HostTensor["data"], count: number): void {
  for (let filled = count; filled < data.length; filled *= 2) data.copyWithin(filled, 0, filled);
}

/** A tensor of random numbers of variance 1. */
export function randomTensor(
  backend: Backend,
  dtype: FloatType,
  shape: readonly number[],
  seed: number,
): Tensor {
  const tensor = emptyTensor(dtype, shape), { data } = tensor, drawn = Math.min(data.length, DRAWN);
  const next = numbers(seed), convert = { f32: Number, f16: toF16, bf16: toBf16 }[dtype];
  for (let i = 0; i < drawn; i++) data[i] = convert(next() + next() + next());
  repeatFirst(data, drawn);
  return backend.upload(tensor);
}

/** Whole numbers on a backend. */
export function i32(backend: Backend, values: readonly number[] | Int32Array): Tensor {
  return backend.upload(hostTensor("i32", [values.length], Int32Array.from(values)));
}

/** @throws {Error} If two results differ by more than `tolerance` anywhere, or one holds NaN. */
export function expectClose(
  what: string,
  found: ArrayLike<number>,
  expected: ArrayLike<number>,
  tolerance: number,
): void {
  if (found.length !== expected.length) {
    throw new Error(`Cannot trust ${what}: found ${found.length} numbers, expected ${expected.length}`);
  }
  for (let i = 0; i < found.length; i++) {
    if (!(Math.abs(found[i]! - expected[i]!) <= tolerance)) {
      throw new Error(
        `Cannot trust ${what}: found ${found[i]} at index ${i}, expected ${expected[i]} within ${tolerance}`,
      );
    }
  }
}
