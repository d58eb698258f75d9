/** Tensors of a file, whose values are read when they are asked for; and as kernels take them: reordered, of another type. */
import { byteSize, type DType, type WeightDType } from "../../dtype.ts";
import { dequantize } from "../../reference/dequantize.ts";
import { quantize } from "../../reference/quantize.ts";
import { countOf, type HostTensor, hostTensor, rowLength, type TensorData } from "../../tensor.ts";
import { type ByteSource, takeArray, type TakeBytes } from "./_byte_source.ts";

/** @internal A tensor of a file. Each look at `data` reads them anew where the file is not in memory. */
export interface FileTensor extends HostTensor {
  /** The same tensor, its values read into the memory that `take` gives; undefined: they are in memory, as `data`. */
  readonly borrow?: (take: TakeBytes) => HostTensor;
}

/** Where a tensor's values lie. */
export interface TensorPlace {
  readonly dtype: DType;
  readonly shape: readonly number[];
  /** First byte in the file, and bytes. */
  readonly at: number;
  readonly size: number;
}

/** Two places of which the second begins inside the first, if there are any. */
export function findOverlap<Place extends TensorPlace>(places: readonly Place[]): [Place, Place] | undefined {
  const sorted = places.toSorted((a, b) => a.at - b.at);
  const next = sorted.findIndex((place, i) => i > 0 && sorted[i - 1]!.at + sorted[i - 1]!.size > place.at);
  return next < 0 ? undefined : [sorted[next - 1]!, sorted[next]!];
}

/** The tensor of a place: a view of a file in memory. */
export function tensorAt(source: ByteSource, { dtype, shape, at, size }: TensorPlace): FileTensor {
  if (source.borrow === undefined) return { dtype, shape, data: viewAs(dtype, source.read(at, size)) };
  return {
    dtype,
    shape,
    get data() {
      return viewAs(dtype, source.read(at, size));
    },
    borrow: (take) => ({ dtype, shape, data: viewAs(dtype, source.borrow!(at, size, take)) }),
  };
}

/** A tensor's bytes as an array of its type: views where they are aligned for it, else a copy. */
function viewAs(dtype: DType, bytes: Uint8Array<ArrayBuffer>): TensorData {
  const width = dtype === "f32" ? 4 : dtype === "f16" || dtype === "bf16" ? 2 : 1;
  const { buffer, byteOffset, length } = bytes.byteOffset % width === 0 ? bytes : bytes.slice();
  if (width === 4) return new Float32Array(buffer, byteOffset, length / 4);
  return width === 2
    ? new Uint16Array(buffer, byteOffset, length / 2)
    : new Uint8Array(buffer, byteOffset, length);
}

/**
 * Rows of heads (or values, where there is one dimension) from the order of halves, in which value i of a head turns
 * with value i + dims / 2, to that of pairs. Values past `dims` of a head stay.
 *
 * @param data Where they are written: the tensor's own, or a copy of it.
 */
export function halvesToPairs(
  tensor: HostTensor,
  heads: number,
  dims: number,
  data: TensorData = tensor.data.slice(),
): HostTensor {
  const width = rowLength(tensor), headDim = tensor.shape[0]! / heads;
  const own = tensor.data.slice(0, headDim * width);
  for (let head = 0; head < heads; head++) {
    own.set(tensor.data.subarray(head * headDim * width, (head + 1) * headDim * width));
    for (let i = 0; i < dims; i++) {
      const from = (i >> 1) + (i & 1) * dims / 2, to = head * headDim + i;
      data.set(own.subarray(from * width, (from + 1) * width), to * width);
    }
  }
  return hostTensor(tensor.dtype, tensor.shape, data);
}

export function asF32(tensor: HostTensor): Float32Array<ArrayBuffer> {
  return dequantize(tensor, 0, countOf(tensor.shape));
}

/** Values as f32, each with `offset` added. */
export function widen(tensor: HostTensor, offset: number): HostTensor {
  return hostTensor("f32", tensor.shape, asF32(tensor).map((value) => value + offset));
}

/** Values that are turned at once, a multiple of every block: more would be a copy in f32, fewer take longer. */
const TURNED = new Float32Array(1 << 16);

/** A tensor's values as another type, rounded as ggml rounds. @throws {RangeError} If the type does not hold them. */
export function convert(tensor: HostTensor, dtype: WeightDType, take = takeArray): HostTensor {
  const { shape } = tensor, count = countOf(shape);
  const out = hostTensor<DType>(dtype, shape, viewAs(dtype, take(byteSize(dtype, count))));
  const perValue = out.data.length / count;
  // All pieces use the same memory: garbage of each, until it is collected, can be more than the tensor.
  for (let at = 0; at < count; at += TURNED.length) {
    const values = dequantize(tensor, at, Math.min(TURNED.length, count - at), TURNED);
    quantize(values, dtype, out.data.subarray(at * perValue, (at + values.length) * perValue));
  }
  return out;
}
