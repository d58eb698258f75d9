/** Races of matrix products on a GPU: one MLP matrix of a model of 8 billion parameters, by rows and by type of the weights. */
import { byteSize, type DType, DTYPES } from "../../../lib/dtype.ts";
import { toF16 } from "../../../lib/half.ts";
import { dequantize, ReferenceBackend } from "../../../lib/reference/mod.ts";
import {
  emptyTensor,
  f32Data,
  type HostTensor,
  hostTensor,
  rowsOf,
  type Tensor,
} from "../../../lib/tensor.ts";
import { expectClose, numbers } from "../bench/run.ts";
import { type Gpu, randomTensor } from "./device.ts";
import type { GpuBenchCase } from "./row.ts";

/** Types of weights, and bytes of a block at which its scales stand, as float16. */
const SCALES: { readonly [dtype in DType]?: readonly number[] } = {
  bf16: [],
  q8_0: [0],
  q4_1: [0, 2],
  q4_k: [0, 2],
};
export const LINEAR_DTYPES = Object.keys(SCALES) as DType[];

/** Rows of a matrix that are drawn; the others repeat them. */
const DRAWN_ROWS = 64;
/** Bound of the error, relative to the sum of the products' sizes, as the tests of `linear` have it. */
const TOLERANCE = 1e-5;

/** Sizes of the product of x [rows, k] and the transpose of a weight [n, k]. */
export interface LinearSizes {
  readonly n: number;
  readonly k: number;
}

/** Random weights: on the device, and the drawn rows on the host. */
function randomWeight(
  { backend }: Gpu,
  dtype: DType,
  { n, k }: LinearSizes,
): { on: Tensor; drawn: HostTensor } {
  const rows = Math.min(n, DRAWN_ROWS), next = numbers(n + k), drawn = emptyTensor(dtype, [rows, k]);
  const bytes = new Uint8Array(drawn.data.buffer), view = new DataView(drawn.data.buffer);
  for (let i = 0; i < bytes.length; i++) bytes[i] = (next() + 1) * 128;
  const { blockBytes } = DTYPES[dtype];
  for (let block = 0; block < bytes.length; block += blockBytes) {
    // A bf16 of random bits may be infinite: its exponent is drawn near 1.
    if (dtype === "bf16") bytes[block + 1] = 0x3c + (bytes[block + 1]! & 0x83);
    for (const at of SCALES[dtype]!) view.setUint16(block + at, toF16(0.01 * (next() + 1.5)), true);
  }
  const on = backend.alloc(dtype, [n, k]), total = byteSize(dtype, n * k);
  backend.memory.write(on.buffer, bytes);
  for (let filled = bytes.length; filled < total;) {
    const more = Math.min(filled, total - filled);
    backend.memory.copy(on.buffer, on.buffer, more, { from: 0, to: filled });
    filled += more;
  }
  return { on, drawn };
}

/** Products of `rows` rows by a matrix of each type. */
export function linearCases(
  gpu: Gpu,
  sizes: LinearSizes,
  rows: number,
  dtypes = LINEAR_DTYPES,
): GpuBenchCase[] {
  const { backend } = gpu, { n, k } = sizes;
  const x = randomTensor(gpu, "f32", [rows, k], rows), out = backend.alloc("f32", [rows, n]);
  return dtypes.map((dtype) => {
    const { on, drawn } = randomWeight(gpu, dtype, sizes), run = () => backend.linear(x, on, out);
    return {
      op: "linear",
      impl: "tokenfilter",
      phase: rows > 64 ? "prefill" : "decode",
      shape: `rows=${rows} n=${n} k=${k}`,
      dtype,
      skip: 0,
      flops: 2 * rows * n * k,
      bytes: byteSize(dtype, n * k) + 4 * rows * (n + k),
      run,
      verify() {
        run();
        for (const row of new Set([0, rows - 1])) {
          const ownX = backend.read(backend.row(x, row)),
            found = f32Data(backend.read(backend.row(out, row)));
          for (const column of [0, n >> 1, n - 1]) {
            const at = column % drawn.shape[0]!, weight = rowsOf(drawn, at, at + 1);
            const expected = emptyTensor("f32", [1, 1]), sources = f32Data(ownX);
            new ReferenceBackend().linear(hostTensor("f32", [1, k], sources), weight, expected);
            const size = dequantize(weight, 0, k).reduce((sum, w, i) => sum + Math.abs(w * sources[i]!), 0);
            const what = `linear by ${dtype}, row ${row}, column ${column}`;
            expectClose(what, [found[column]!], f32Data(expected), TOLERANCE * size);
          }
        }
      },
    };
  });
}
