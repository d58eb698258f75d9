/**
 * Every op in plain TypeScript, as its definition reads and summed in float64: slow, and the truth for tests.
 */
import type { Backend } from "../backend.ts";
import { observeLayer, scanLayer } from "../filter/mod.ts";
import { emptyTensor, type HostTensor, resizedRows, type Tensor } from "../tensor.ts";
import { attention } from "./attention.ts";
import { linear } from "./linear.ts";
import { compareLogits, nll } from "./logits.ts";
import * as rows from "./rows.ts";

/**
 * The reference backend.
 *
 * @example
 * ```ts
 * import { ReferenceBackend } from "./mod.ts";
 * import { f32Data, hostTensor } from "../tensor.ts";
 * const backend = new ReferenceBackend();
 * const x = hostTensor("f32", [1, 2], new Float32Array([3, 4]));
 * const weight = hostTensor("f32", [1, 2], new Float32Array([1, 10]));
 * const out = backend.alloc("f32", [1, 1]);
 * backend.linear(x, weight, out);
 * console.assert(f32Data(out)[0] === 43);
 * ```
 */
export class ReferenceBackend implements Backend {
  readonly name = "reference";
  readonly description = "plain TypeScript, sums in float64";
  readonly alloc = emptyTensor;
  readonly upload = (tensor: HostTensor): Tensor => tensor;
  readonly read = (tensor: Tensor): HostTensor => tensor as HostTensor;
  readonly resizeRows = (tensor: Tensor, count: number): Tensor => resizedRows(tensor as HostTensor, count);
  readonly embedding = rows.embedding;
  readonly rmsNorm = rows.rmsNorm;
  readonly linear = linear;
  readonly rope = rows.rope;
  readonly swiglu = rows.swiglu;
  readonly gatherRows = rows.gatherRows;
  readonly scatterAddRows = rows.scatterAddRows;
  readonly storeRows = rows.storeRows;
  readonly rowNorms = rows.rowNorms;
  readonly attention = attention;
  readonly nll = nll;
  readonly compareLogits = compareLogits;
  readonly kvFilterScan: Backend["kvFilterScan"] = (spec, state, input, start, count, output) =>
    scanLayer(spec, state, input as Parameters<typeof scanLayer>[2], start, count, output);
  readonly kvFilterObserve: Backend["kvFilterObserve"] = observeLayer;
}
