/** Tensors: an element type, a shape, and storage that a backend owns. Always row-major and contiguous. */
import { byteSize, type DType } from "./dtype.ts";
import { expectInstance, expectInteger, expectTypeOf } from "./errors.ts";

/** Arrays for values of each type; all other types are bytes. f16 and bf16 travel as raw 16-bit patterns. */
const ARRAYS = { f32: Float32Array, f64: Float64Array, i32: Int32Array, f16: Uint16Array, bf16: Uint16Array };

/** @internal The typed array that holds a host tensor's values. */
export type DataOf<Type extends DType> = Type extends "f32" ? Float32Array
  : Type extends "f64" ? Float64Array
  : Type extends "i32" ? Int32Array
  : Type extends "f16" | "bf16" ? Uint16Array
  : Uint8Array;
/** @internal Typed arrays that hold a host tensor's values. */
export type TensorData = DataOf<DType>;

/** The class of {@linkcode DataOf}. */
function arrayOf(dtype: DType): {
  readonly BYTES_PER_ELEMENT: number;
  new (from: ArrayBuffer | number): TensorData;
} {
  return ARRAYS[dtype as keyof typeof ARRAYS] ?? Uint8Array;
}

/** The members of every backend's tensor. Values are reached through {@linkcode Backend.read}. */
export interface Tensor {
  /** Element type. */
  readonly dtype: DType;
  /** Sizes, outermost first; the last dimension is contiguous (and the one that is quantised). */
  readonly shape: readonly number[];
}

/** A tensor in this process's memory: `data` holds exactly `byteSize(dtype, product of shape)` bytes. */
export interface HostTensor extends Tensor {
  /** The values, in row-major order. */
  readonly data: TensorData;
}

export function countOf(shape: readonly number[]): number {
  return shape.reduce((a, b) => a * b, 1);
}

/**
 * Wraps values as a host tensor without copying.
 *
 * @throws {TypeError} If `shape` is no list, or `data` no array of the element type.
 * @throws {RangeError} If there is no such type, or the bytes of `data` do not fit the shape.
 *
 * @example
 * ```ts
 * import { hostTensor } from "@tokenfilter/tokenfilter";
 * const x = hostTensor("f32", [2, 3], new Float32Array(6));
 * console.assert(x.shape[1] === 3);
 * ```
 */
export function hostTensor<Type extends DType>(
  dtype: Type,
  shape: readonly number[],
  data: DataOf<Type>,
): HostTensor {
  expectInstance("shape", shape, Array);
  for (const size of shape) expectInteger("shape", size, 0);
  const want = byteSize(dtype, countOf(shape));
  expectInstance("data", data, arrayOf(dtype));
  if (data.byteLength !== want) {
    throw new RangeError(
      `Cannot make a ${dtype} tensor of shape [${shape}]: found ${data.byteLength} bytes, expected ${want}`,
    );
  }
  return { dtype, shape, data };
}

/** Checks a tensor that a backend is to take over. @throws As {@linkcode hostTensor}, if it is not whole. */
export function expectHostTensor(tensor: HostTensor): HostTensor {
  expectTypeOf("tensor", tensor, "object");
  hostTensor(tensor.dtype, tensor.shape, tensor.data);
  return tensor;
}

/** A host tensor in zeroed memory, or in the given one, which has as many bytes. */
export function emptyTensor(dtype: DType, shape: readonly number[], memory?: ArrayBuffer): HostTensor {
  const bytes = byteSize(dtype, countOf(shape)), Values = arrayOf(dtype);
  const data = new Values(memory ?? bytes / Values.BYTES_PER_ELEMENT);
  return { dtype, shape, data };
}

/**
 * Checks a tensor against an expected type and shape (-1 = any size).
 *
 * @returns Its shape.
 * @throws {TypeError} If it is no tensor, or its element type differs.
 * @throws {RangeError} If the shape differs.
 */
export function expectTensor<const Shape extends readonly number[]>(
  name: string,
  tensor: Tensor,
  dtypes: DType | readonly DType[],
  shape: Shape,
): { readonly [Axis in keyof Shape]: number } {
  expectTypeOf(name, tensor, "object");
  const allowed = typeof dtypes === "string" ? [dtypes] : dtypes;
  if (!allowed.includes(tensor.dtype)) {
    throw new TypeError(`Cannot use "${name}": found ${tensor.dtype}, expected ${allowed.join(" or ")}`);
  }
  const same = tensor.shape.length === shape.length &&
    shape.every((size, i) => size === -1 || size === tensor.shape[i]);
  if (!same) {
    throw new RangeError(`Cannot use "${name}": found shape [${tensor.shape}], expected [${shape}]`);
  }
  return tensor.shape as { readonly [Axis in keyof Shape]: number };
}

/** @throws {RangeError} If a token id is outside a vocabulary of that size. */
export function expectIds(ids: ArrayLike<number>, vocabSize: number): void {
  for (let i = 0; i < ids.length; i++) {
    if (ids[i]! < 0 || ids[i]! >= vocabSize) {
      throw new RangeError(`Cannot embed id ${ids[i]}: expected 0 to ${vocabSize - 1}`);
    }
  }
}

/**
 * The values of a tensor that lives in this process.
 *
 * @throws {TypeError} If the tensor lives elsewhere, for example on a GPU, or its array is not of its element type.
 */
export function hostData(tensor: Tensor): TensorData {
  const data = (tensor as Partial<HostTensor>).data;
  if (data === undefined) {
    throw new TypeError("Cannot reach a device tensor's values directly: read it through its backend");
  }
  const Values = arrayOf(tensor.dtype);
  if (!(data instanceof Values)) expectInstance(`data of a tensor of ${tensor.dtype}`, data, Values);
  return data;
}

/** The values of an f32 host tensor. @throws {TypeError} If it is of another type or on a device. */
export function f32Data(tensor: Tensor): Float32Array<ArrayBuffer> {
  const data = hostData(tensor);
  if (tensor.dtype !== "f32") {
    throw new TypeError(`Cannot use a ${tensor.dtype} tensor: expected f32`);
  }
  return data as Float32Array<ArrayBuffer>;
}

/** Elements of a host tensor's array that a row of its first dimension takes. */
export function rowLength({ dtype, shape, data }: HostTensor): number {
  return byteSize(dtype, countOf(shape.slice(1))) / data.BYTES_PER_ELEMENT;
}

/** Rows [start, end) of a host tensor's first dimension, as a view without a copy. */
export function rowsOf(tensor: HostTensor, start: number, end: number): HostTensor {
  const { shape, data } = tensor, width = rowLength(tensor);
  return {
    ...tensor,
    shape: [end - start, ...shape.slice(1)],
    data: data.subarray(start * width, end * width),
  };
}

/** The first rows of a tensor of any backend, without a copy. */
export function firstRows(tensor: Tensor, rows: number): Tensor {
  return "data" in tensor
    ? rowsOf(tensor as HostTensor, 0, rows)
    : { ...tensor, shape: [rows, ...tensor.shape.slice(1)] };
}

/**
 * A fresh tensor of `rows` rows that begins with the rows of `tensor` (as many as fit); the rest is zero.
 *
 * @param make Makes a zero tensor.
 */
export function resizedRows(tensor: HostTensor, rows: number, make = emptyTensor): HostTensor {
  const out = make(tensor.dtype, [rows, ...tensor.shape.slice(1)]);
  const count = Math.min(out.data.length, tensor.data.length);
  out.data.set(tensor.data.subarray(0, count));
  return out;
}
