/** Tensors of a file: what they are is known, their values are read when they are asked for. */
import type { DType } from "../../dtype.ts";
import type { HostTensor, TensorData } from "../../tensor.ts";
import { type ByteSource, MemoryBytes } from "./_byte_source.ts";

/** @internal A tensor of a file. Each look at `data` reads them anew where the file is not in memory. */
export interface FileTensor extends HostTensor {
  /** The same tensor, its values read into the memory that `take` gives; undefined: they are in memory, as `data`. */
  readonly borrow?: (take: (size: number) => Uint8Array<ArrayBuffer>) => HostTensor;
}

/** Where a tensor's values lie. */
export interface TensorPlace {
  readonly dtype: DType;
  readonly shape: readonly number[];
  /** First byte in the file, and bytes. */
  readonly at: number;
  readonly size: number;
}

/** The tensor of a place: a view of a file in memory. */
export function tensorAt(source: ByteSource, { dtype, shape, at, size }: TensorPlace): FileTensor {
  if (source instanceof MemoryBytes) return { dtype, shape, data: viewAs(dtype, source.read(at, size)) };
  return {
    dtype,
    shape,
    get data() {
      return viewAs(dtype, source.read(at, size));
    },
    borrow: (take) => ({ dtype, shape, data: viewAs(dtype, source.borrow(at, size, take)) }),
  };
}

/** A tensor's bytes as an array of its type: views where they are aligned for it, else a copy. */
export function viewAs(dtype: DType, bytes: Uint8Array<ArrayBuffer>): TensorData {
  const width = dtype === "f32" ? 4 : dtype === "f16" || dtype === "bf16" ? 2 : 1;
  const { buffer, byteOffset, length } = bytes.byteOffset % width === 0 ? bytes : bytes.slice();
  if (width === 4) return new Float32Array(buffer, byteOffset, length / 4);
  return width === 2
    ? new Uint16Array(buffer, byteOffset, length / 2)
    : new Uint8Array(buffer, byteOffset, length);
}
