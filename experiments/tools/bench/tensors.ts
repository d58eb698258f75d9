/** Random tensors for the cases, their values on the host, and the comparison of results. */
import { numbers } from "../../../kernels/testing/inputs.ts";
import type { Backend } from "../../../lib/backend.ts";
import { toBf16, toF16 } from "../../../lib/math/half.ts";
import { emptyTensor, type HostTensor, hostTensor, type Tensor } from "../../../lib/tensor.ts";

/** Element types of activations and caches. */
export type FloatType = "f32" | "f16" | "bf16";

/** Values that are drawn; larger tensors repeat them. */
const DRAWN = 2 ** 20;

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

/** The same record with all of its tensors changed; other values stay. */
export function mapTensors<T extends object>(record: T, change: (tensor: Tensor) => HostTensor): T {
  const changed = Object.entries(record).map(([name, value]) => [
    name,
    typeof value === "object" && "dtype" in value ? change(value) : value,
  ]);
  return Object.fromEntries(changed) as T;
}

/** One row of a tensor, as a batch of one on the host. */
export function rowOf(backend: Backend, tensor: Tensor, index: number): HostTensor {
  const row = backend.read(backend.row(tensor, index));
  return { ...row, shape: [1, ...row.shape] };
}

/** @throws {Error} If two results differ by more than `tolerance` anywhere, or one holds NaN. */
export function expectClose(
  what: string,
  found: ArrayLike<number>,
  expected: ArrayLike<number>,
  tolerance: number,
): void {
  const isSame = found.length === expected.length;
  for (let i = isSame ? 0 : -1; i < found.length; i++) {
    if (Math.abs(found[i]! - expected[i]!) <= tolerance) continue;
    const [own, other] = isSame
      ? [`${found[i]} at index ${i}`, expected[i]]
      : [`${found.length} numbers`, expected.length];
    throw new Error(`Cannot trust ${what}: found ${own}, expected ${other} within ${tolerance}`);
  }
}
