/** The probabilities that queries give to keys, found by the attention op itself. */
import type { AttentionArgs, Backend } from "../backend.ts";
import { f32Data, hostTensor } from "../tensor.ts";
import { asMatrix } from "./forward_pass.ts";

/**
 * Mean over heads of the probabilities that queries give to the last of the cached rows, [R, U], float64; 0 for a row that
 * a query does not see. Attention with unit vectors for values: headDim rows a call.
 *
 * @param from First of those rows; U = numKeys - from.
 */
export function meanProbabilities(
  backend: Backend,
  args: Omit<AttentionArgs, "out">,
  from: number,
): Float64Array {
  const [queries, numHeads, headDim] = args.queries.shape as [number, number, number];
  const { shape, dtype } = args.values, numKvHeads = shape[1]!, width = numKvHeads * headDim;
  const tokens = args.numKeys - from, all = new Float64Array(queries * tokens);
  const units = backend.alloc(dtype as "f32", shape), out = backend.alloc("f32", args.queries.shape);
  for (let first = 0; first < tokens; first += headDim) {
    const rows = Math.min(headDim, tokens - first), block = new Float32Array(rows * width);
    for (let row = 0; row < rows; row++) {
      for (let head = 0; head < numKvHeads; head++) block[row * width + head * headDim + row] = 1;
    }
    const store = (values: Float32Array<ArrayBuffer>) => {
      const tensor = backend.upload(hostTensor("f32", [rows, width], values));
      backend.storeRows(tensor, asMatrix(units), from + first);
      backend.free(tensor);
    };
    store(block);
    backend.attention({ ...args, values: units, out });
    store(block.fill(0));
    const attended = f32Data(backend.read(out));
    for (let query = 0; query < queries; query++) {
      for (let row = 0; row < rows; row++) {
        let sum = 0;
        for (let head = 0; head < numHeads; head++) {
          sum += attended[(query * numHeads + head) * headDim + row]!;
        }
        all[query * tokens + first + row] = sum / numHeads;
      }
    }
  }
  backend.free(units);
  backend.free(out);
  return all;
}
