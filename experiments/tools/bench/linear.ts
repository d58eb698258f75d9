/** Matrix products, by rows and by type of the weights. */
import type { Backend } from "../../../lib/backend.ts";
import { byteSize, type DType, DTYPES } from "../../../lib/dtype.ts";
import { toBf16, toF16 } from "../../../lib/math/half.ts";
import { dequantize, ReferenceBackend } from "../../../lib/reference/mod.ts";
import { emptyTensor, f32Data, type HostTensor, rowsOf } from "../../../lib/tensor.ts";
import type { BenchCase } from "./run.ts";
import { expectClose, numbers, randomTensor, repeatFirst } from "./tensors.ts";

/** Types of weights, and bytes of a block at which its scales stand, as float16. */
const SCALES: { readonly [dtype in DType]?: readonly number[] } = { q8_0: [0], q4_1: [0, 2], q4_k: [0, 2] };
/** Rows of a matrix that are drawn; the others repeat them. */
const DRAWN_ROWS = 64;
/** Bound of the error, relative to the sum of the products' sizes, as the tests of `linear` have it. */
const TOLERANCE = 1e-5;
/** Rows from which a product is one of a prefill. */
const PREFILL_ROWS = 65;

/** Random weights [n, k]. */
function randomWeight(dtype: DType, n: number, k: number): HostTensor {
  const weight = emptyTensor(dtype, [n, k]), { data } = weight, next = numbers(n + k);
  const drawn = data.length / n * Math.min(n, DRAWN_ROWS);
  if (dtype === "f32" || dtype === "bf16") {
    for (let i = 0; i < drawn; i++) data[i] = (dtype === "f32" ? Number : toBf16)(next() * 0.1);
  } else {
    const { blockBytes } = DTYPES[dtype], view = new DataView(data.buffer);
    for (let i = 0; i < drawn; i++) data[i] = (next() + 1) * 128;
    for (let block = 0; block < drawn; block += blockBytes) {
      for (const at of SCALES[dtype]!) view.setUint16(block + at, toF16(0.01 * (next() + 1.5)), true);
    }
  }
  repeatFirst(data, drawn);
  return weight;
}

/** The product of x [rows, k] and the transpose of a weight [n, k]. */
export function linearCase(
  backend: Backend,
  impl: string,
  { dtype, n, k, rows }: {
    readonly dtype: DType;
    readonly n: number;
    readonly k: number;
    readonly rows: number;
  },
): BenchCase {
  const weight = randomWeight(dtype, n, k), on = backend.upload(weight);
  const x = randomTensor(backend, "f32", [rows, k], rows), out = backend.alloc("f32", [rows, n]);
  const run = () => backend.linear(x, on, out);
  return {
    ...{ op: "linear", impl, shape: `M=${rows} N=${n} K=${k}`, dtype, skip: 0, run },
    phase: rows >= PREFILL_ROWS ? "prefill" : "decode",
    flops: 2 * rows * n * k,
    bytes: byteSize(dtype, n * k) + 4 * rows * (n + k),
    verify() {
      run();
      for (const row of new Set([0, rows - 1])) {
        const ownX = rowsOf(backend.read(x), row, row + 1), sources = f32Data(ownX);
        const found = f32Data(rowsOf(backend.read(out), row, row + 1));
        for (const column of [0, n >> 1, n - 1]) {
          const own = rowsOf(weight, column, column + 1), expected = emptyTensor("f32", [1, 1]);
          new ReferenceBackend().linear(ownX, own, expected);
          const size = dequantize(own, 0, k).reduce((sum, w, i) => sum + Math.abs(w * sources[i]!), 0);
          const what = `linear by ${dtype}, row ${row}, column ${column}`;
          expectClose(what, [found[column]!], f32Data(expected), TOLERANCE * size);
        }
      }
    },
  };
}
