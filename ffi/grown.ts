/** Host tensors that grow where they are: a cache that grows by pages would else be copied, and cleared, at each. */
import { byteSize } from "../lib/dtype.ts";
import { countOf, type HostTensor, type TensorData } from "../lib/tensor.ts";

/** Addresses kept free behind a tensor, as a multiple of its size: they cost no memory until they are used. */
const ROOM = 4;

/** A tensor of `rows` rows in the memory of `tensor`, where there is room, else in new memory; what is new is zero. */
export function regrownRows({ dtype, shape, data }: HostTensor, rows: number): HostTensor {
  const grown = [rows, ...shape.slice(1)], bytes = byteSize(dtype, countOf(grown));
  const view = data.constructor as new (buffer: ArrayBuffer, from: number, length: number) => TensorData;
  const length = bytes / data.BYTES_PER_ELEMENT;
  let buffer = data.buffer as ArrayBuffer;
  if (buffer.resizable && bytes <= buffer.maxByteLength) {
    buffer.resize(bytes);
    return { dtype, shape: grown, data: new view(buffer, 0, length) };
  }
  buffer = new ArrayBuffer(bytes, { maxByteLength: ROOM * bytes });
  const out = new view(buffer, 0, length);
  out.set(data.subarray(0, length) as never);
  giveBack({ dtype, shape, data });
  return { dtype, shape: grown, data: out };
}

/** Gives the memory of a tensor that was grown back at once; others are left to the runtime. */
export function giveBack({ data }: HostTensor): void {
  const buffer = data.buffer as ArrayBuffer;
  if (buffer.resizable) buffer.resize(0);
}
