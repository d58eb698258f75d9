/** Every op in plain TypeScript, as its definition reads and summed in float64: slow, and the truth for tests. */
import type { Backend } from "../backend.ts";
import { observeLayer, scanLayer } from "../filter/mod.ts";
import { emptyTensor, expectHostTensor, type HostTensor, resizedRows, type Tensor } from "../tensor.ts";
import { attention } from "./attention.ts";
import { batchOps, onKept } from "./batch.ts";
import { linear } from "./linear.ts";
import { compareLogits, nll } from "./logits.ts";
import * as rows from "./rows.ts";

export { dequantize } from "./dequantize.ts";

class Reference implements Backend {
  readonly name = "reference";
  readonly description = "plain TypeScript, sums in float64";
  readonly alloc: Backend["alloc"] = (dtype, shape) => emptyTensor(dtype, shape);
  readonly upload: Backend["upload"] = expectHostTensor;
  readonly read: Backend["read"] = (tensor: Tensor): HostTensor => tensor as HostTensor;
  readonly resizeRows: Backend["resizeRows"] = (tensor: Tensor, count: number): Tensor =>
    resizedRows(tensor as HostTensor, count);
  readonly regrowRows: Backend["regrowRows"] = this.resizeRows;
  readonly free: Backend["free"] = () => {};
  readonly embedding: Backend["embedding"] = rows.embedding;
  readonly rmsNorm: Backend["rmsNorm"] = rows.rmsNorm;
  readonly addRmsNorm: Backend["addRmsNorm"] = (x, delta, weight, eps, out, only) => {
    this.add(x, delta, only);
    this.rmsNorm(x, weight, eps, out);
  };
  readonly linear: Backend["linear"] = (x, weight, out, only) => {
    if (only === undefined) linear(x, weight, out);
    else onKept(only, out, [x], (out, x) => linear(x, weight, out));
  };
  readonly linears: Backend["linears"] = (x, products, only, sameX) => {
    products.forEach(({ weight, out }, i) => this.linear(x, weight, out, only, sameX || i > 0));
  };
  readonly gatedLinear: Backend["gatedLinear"] = (x, gate, up, activation) => {
    this.linears(x, [gate, up]);
    this[activation](gate.out, up.out, gate.out);
  };
  readonly rope: Backend["rope"] = (x, positions, turns, only) => {
    if (only === undefined) rows.rope(x, positions, turns);
    else onKept(only, x, [positions], (x, positions) => rows.rope(x, positions, turns));
  };
  readonly swiglu: Backend["swiglu"] = rows.swiglu;
  readonly geglu: Backend["geglu"] = rows.geglu;
  readonly gatherRows: Backend["gatherRows"] = rows.gatherRows;
  readonly scatterAddRows: Backend["scatterAddRows"] = rows.scatterAddRows;
  readonly add: Backend["add"] = (x, delta, only) => {
    if (only === undefined) rows.add(x, delta);
    else onKept(only, x, [delta], rows.add);
  };
  readonly storeRows: Backend["storeRows"] = rows.storeRows;
  readonly rowNorms: Backend["rowNorms"] = rows.rowNorms;
  readonly givesShares = true;
  readonly movesRows = true;
  readonly attention: Backend["attention"] = attention;
  readonly nll: Backend["nll"] = nll;
  readonly compareLogits: Backend["compareLogits"] = compareLogits;
  readonly kvFilterScan: Backend["kvFilterScan"] = (spec, state, input, start, count, output) =>
    scanLayer(spec, state, input as Parameters<typeof scanLayer>[2], start, count, output);
  readonly kvFilterObserve: Backend["kvFilterObserve"] = observeLayer;
  readonly #batch = batchOps(this);
  readonly kvFilterSigns: Backend["kvFilterSigns"] = this.#batch.kvFilterSigns;
  readonly kvFilterStep: Backend["kvFilterStep"] = this.#batch.kvFilterStep;
  readonly kvKeyStep: Backend["kvKeyStep"] = this.#batch.kvKeyStep;
  readonly kvFilterObserveBatch: Backend["kvFilterObserveBatch"] = this.#batch.kvFilterObserveBatch;
  readonly attentionDecode: Backend["attentionDecode"] = this.#batch.attentionDecode;
  readonly advance: Backend["advance"] = this.#batch.advance;
  readonly argmax: Backend["argmax"] = this.#batch.argmax;
  readonly row: Backend["row"] = this.#batch.row;
  readonly write: Backend["write"] = this.#batch.write;
  readonly copyRows: Backend["copyRows"] = this.#batch.copyRows;
}

/**
 * The reference backend.
 *
 * @example
 * ```ts
 * import { f32Data, hostTensor, ReferenceBackend } from "@tokenfilter/tokenfilter";
 * const backend = new ReferenceBackend();
 * const x = hostTensor("f32", [1, 2], new Float32Array([3, 4]));
 * const weight = hostTensor("f32", [1, 2], new Float32Array([1, 10]));
 * const out = backend.alloc("f32", [1, 1]);
 * backend.linear(x, weight, out);
 * console.assert(f32Data(out)[0] === 43);
 * ```
 */
export const ReferenceBackend: new () => Backend = Reference;
