/** What tests of the CUDA library's attention share. */
import type { DeviceTensor } from "../../ffi/cuda/backend.ts";
import { byteSize } from "../../lib/dtype.ts";
import { countOf } from "../../lib/tensor.ts";

/** Largest errors allowed against the reference, for values around 1 and inputs that the type holds exactly. */
export const BAR = { f32: 1e-5, f16: 1e-3, bf16: 8e-3 } as const;

/** Largest difference of two results; where NaN is expected, NaN must be found, and nowhere else. */
export function difference(found: Float32Array, expected: Float32Array): number {
  let worst = found.length === expected.length ? 0 : Infinity;
  for (let i = 0; i < found.length; i++) {
    if (Number.isNaN(found[i]!) && Number.isNaN(expected[i]!)) continue;
    const d = Math.abs(found[i]! - expected[i]!);
    worst = d <= worst ? worst : Number.isNaN(d) ? Infinity : d;
  }
  return worst;
}

/** A struct that begins with `tkf_buffer`s, with `more` bytes behind them. */
export function packBuffers(
  tensors: readonly (DeviceTensor | undefined)[],
  more: number,
): DataView<ArrayBuffer> {
  const view = new DataView(new ArrayBuffer(16 * tensors.length + more));
  tensors.forEach((tensor, i) => {
    if (tensor === undefined) return;
    const bytes = byteSize(tensor.dtype, countOf(tensor.shape));
    view.setBigUint64(
      16 * i,
      bytes === 0 ? 0n : BigInt(Deno.UnsafePointer.value(tensor.buffer.address)),
      true,
    );
    view.setBigUint64(16 * i + 8, BigInt(bytes), true);
  });
  return view;
}
