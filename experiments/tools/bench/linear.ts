/** Races of the linear layers of SmolLM2-135M. */
import { byteSize } from "../../../lib/dtype.ts";
import { toF16 } from "../../../lib/half.ts";
import { ReferenceBackend } from "../../../lib/reference/mod.ts";
import { emptyTensor, f32Data, type HostTensor } from "../../../lib/tensor.ts";
import type { CpuBackend } from "../../../ffi/mod.ts";
import { type BenchCase, expectClose, numbers, timed } from "./run.ts";

/** Rows and columns of weights: attention's projections, the MLP's, and the output layer. */
const WEIGHTS = [[576, 576], [1536, 576], [49152, 576]] as const;
const DTYPES = ["f32", "q4_1"] as const;
/** Rows of a small batch. */
const FEW_ROWS = 8;

function activations(rows: number, columns: number): HostTensor {
  const x = emptyTensor("f32", [rows, columns]), next = numbers(rows);
  for (let i = 0; i < x.data.length; i++) x.data[i] = next();
  return x;
}

/** Random weights; q4_1: blocks of scale and minimum in f16, then 32 values of 4 bits. */
function weights(dtype: (typeof DTYPES)[number], n: number, k: number): HostTensor {
  const weight = emptyTensor(dtype, [n, k]), next = numbers(n + k), { data } = weight;
  if (dtype === "f32") {
    for (let i = 0; i < data.length; i++) data[i] = next() * 0.1;
    return weight;
  }
  for (let i = 0; i < data.length; i++) data[i] = (next() + 1) * 128;
  const halves = new Uint16Array(data.buffer);
  for (let block = 0; block < halves.length; block += 10) {
    halves[block] = toF16(0.01 * (next() + 1.5));
    halves[block + 1] = toF16(0.1 * next());
  }
  return weight;
}

/** One benchCase per shape, dtype and number of rows; each has a race of its own. */
export function* linearRaces(backend: CpuBackend, impl: string): Generator<BenchCase[]> {
  for (const [n, k] of WEIGHTS) {
    for (const dtype of DTYPES) {
      const weight = weights(dtype, n, k);
      for (const rows of [1, FEW_ROWS, 512]) {
        const x = activations(rows, k), out = emptyTensor("f32", [rows, n]);
        yield [{
          op: "linear",
          impl,
          phase: rows > FEW_ROWS ? "prefill" : "decode",
          shape: `M=${rows} N=${n} K=${k}`,
          dtype,
          skip: 0,
          flops: 2 * rows * n * k,
          bytes: byteSize(dtype, n * k) + 4 * rows * (n + k),
          verify() {
            backend.linear(x, weight, out);
            const last: HostTensor = { ...x, shape: [1, k], data: x.data.slice(-k) as HostTensor["data"] };
            const expected = emptyTensor("f32", [1, n]);
            new ReferenceBackend().linear(last, weight, expected);
            expectClose(`linear ${dtype} ${n}x${k}`, f32Data(out).subarray(-n), f32Data(expected), 1e-4);
          },
          time: timed(() => backend.linear(x, weight, out)),
        }];
      }
    }
  }
}
