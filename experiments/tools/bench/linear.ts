/** Matrix products, by rows and by type of the weights. */
import { numbers, randomWeight } from "../../../kernels/testing/inputs.ts";
import type { Backend } from "../../../lib/backend.ts";
import { byteSize, type DType } from "../../../lib/dtype.ts";
import { dequantize, ReferenceBackend } from "../../../lib/reference/mod.ts";
import { emptyTensor, f32Data, rowsOf } from "../../../lib/tensor.ts";
import type { BenchCase } from "./run.ts";
import { expectClose, randomTensor, repeatFirst } from "./tensors.ts";

/** Rows of a matrix that are drawn; the others repeat them. */
const DRAWN_ROWS = 64;
/** Bound of the error, relative to the sum of the products' sizes, as the tests of `linear` have it. */
const TOLERANCE = 1e-5;
/** Rows from which a product is one of a prefill. */
const PREFILL_ROWS = 65;

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
  const weight = emptyTensor(dtype, [n, k]),
    drawn = randomWeight(dtype, [Math.min(n, DRAWN_ROWS), k], numbers(n + k));
  weight.data.set(drawn.data as never);
  repeatFirst(weight.data, drawn.data.length);
  const on = backend.upload(weight),
    x = randomTensor(backend, "f32", [rows, k], rows),
    out = backend.alloc("f32", [rows, n]);
  const run = () => backend.linear(x, on, out);
  return {
    ...{ op: "linear", impl, shape: `M=${rows} N=${n} K=${k}`, dtype, skip: 0, run },
    job: { op: "linear", dtype, rows, n, k },
    phase: rows >= PREFILL_ROWS ? "prefill" : "decode",
    flops: 2 * rows * n * k,
    bytes: byteSize(dtype, n * k) + 4 * rows * (n + k),
    verify() {
      run();
      for (const row of new Set([0, rows - 1])) {
        const ownX = rowsOf(backend.read(x), row, row + 1),
          found = f32Data(rowsOf(backend.read(out), row, row + 1));
        for (const column of [0, n >> 1, n - 1]) {
          const own = rowsOf(weight, column, column + 1),
            expected = emptyTensor("f32", [1, 1]),
            sources = f32Data(ownX);
          new ReferenceBackend().linear(ownX, own, expected);
          const size = dequantize(own, 0, k).reduce((sum, w, i) => sum + Math.abs(w * sources[i]!), 0);
          const what = `linear by ${dtype}, row ${row}, column ${column}`;
          expectClose(what, [found[column]!], f32Data(expected), TOLERANCE * size);
        }
      }
    },
  };
}
