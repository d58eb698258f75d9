/** From a tensor as a file has it to one as the kernels take it: reordered, widened, of another type. */
import { byteSize, type WeightDType } from "../../dtype.ts";
import { dequantize } from "../../reference/dequantize.ts";
import { quantize } from "../../reference/quantize.ts";
import { takeArray } from "./_byte_source.ts";
import { viewAs } from "./_file_tensor.ts";
import { countOf, type HostTensor, hostTensor, rowLength, type TensorData } from "../../tensor.ts";

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

/** Values of a tensor as f32. */
export function asF32(tensor: HostTensor): Float32Array<ArrayBuffer> {
  return dequantize(tensor, 0, countOf(tensor.shape));
}

/** Values as f32, each with `offset` added. */
export function widen(tensor: HostTensor, offset: number): HostTensor {
  return hostTensor("f32", tensor.shape, asF32(tensor).map((value) => value + offset));
}

/** Values that are turned at once, a multiple of every block: more would be a copy in f32, fewer take longer. */
const TURNED = new Float32Array(1 << 16);

/**
 * A tensor's values as another type, rounded as ggml rounds them, in the memory that `take` gives.
 *
 * @throws {RangeError} If the type does not hold them.
 */
export function convert(tensor: HostTensor, dtype: WeightDType, take = takeArray): HostTensor {
  const { shape } = tensor, count = countOf(shape);
  const out = hostTensor(dtype, shape, viewAs(dtype, take(byteSize(dtype, count))));
  const perValue = out.data.length / count;
  // All pieces use the same memory: garbage of each, until it is collected, can be more than the tensor.
  for (let at = 0; at < count; at += TURNED.length) {
    const values = dequantize(tensor, at, Math.min(TURNED.length, count - at), TURNED);
    quantize(values, dtype, out.data.subarray(at * perValue, (at + values.length) * perValue));
  }
  return out;
}
