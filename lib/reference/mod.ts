/**
 * Every op in plain TypeScript, as its definition reads and summed in float64: slow, and the truth for tests.
 */
import type { Backend } from "../backend.ts";
import { observeLayer, scanLayer } from "../filter/mod.ts";
import { emptyTensor, type HostTensor, resizedRows, type Tensor } from "../tensor.ts";
import { attention } from "./attention.ts";
import { batchOps, onKept } from "./batch.ts";
import { linear } from "./linear.ts";
import { compareLogits, nll } from "./logits.ts";
import * as rows from "./rows.ts";

export { dequantize } from "./dequantize.ts";

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
export class ReferenceBackend implements Backend {
  /** As `--backend` takes it. */
  readonly name = "reference";
  /** One line for logs. */
  readonly description = "plain TypeScript, sums in float64";
  /** See {@linkcode Backend.alloc}. */
  readonly alloc: Backend["alloc"] = (dtype, shape) => emptyTensor(dtype, shape);
  /** See {@linkcode Backend.upload}. */
  readonly upload: Backend["upload"] = (tensor: HostTensor): Tensor => tensor;
  /** See {@linkcode Backend.read}. */
  readonly read: Backend["read"] = (tensor: Tensor): HostTensor => tensor as HostTensor;
  /** See {@linkcode Backend.resizeRows}. */
  readonly resizeRows: Backend["resizeRows"] = (tensor: Tensor, count: number): Tensor =>
    resizedRows(tensor as HostTensor, count);
  /** See {@linkcode Backend.regrowRows}. */
  readonly regrowRows: Backend["regrowRows"] = this.resizeRows;
  /** See {@linkcode Backend.free}; here the runtime collects what has no reference. */
  readonly free: Backend["free"] = () => {};
  /** See {@linkcode Backend.embedding}. */
  readonly embedding: Backend["embedding"] = rows.embedding;
  /** See {@linkcode Backend.rmsNorm}. */
  readonly rmsNorm: Backend["rmsNorm"] = rows.rmsNorm;
  /** See {@linkcode Backend.addRmsNorm}. */
  readonly addRmsNorm: Backend["addRmsNorm"] = (x, delta, weight, eps, out, only) => {
    this.add(x, delta, only);
    this.rmsNorm(x, weight, eps, out);
  };
  /** See {@linkcode Backend.linear}. */
  readonly linear: Backend["linear"] = (x, weight, out, only) => {
    if (only === undefined) linear(x, weight, out);
    else onKept(only, out, [x], (out, x) => linear(x, weight, out));
  };
  /** See {@linkcode Backend.linears}. */
  readonly linears: Backend["linears"] = (x, products, only, sameX) => {
    products.forEach(({ weight, out }, i) => this.linear(x, weight, out, only, sameX || i > 0));
  };
  /** See {@linkcode Backend.gatedLinear}. */
  readonly gatedLinear: Backend["gatedLinear"] = (x, gate, up, activation) => {
    this.linears(x, [gate, up]);
    this[activation](gate.out, up.out, gate.out);
  };
  /** See {@linkcode Backend.rope}. */
  readonly rope: Backend["rope"] = (x, positions, turns, only) => {
    if (only === undefined) rows.rope(x, positions, turns);
    else onKept(only, x, [positions], (x, positions) => rows.rope(x, positions, turns));
  };
  /** See {@linkcode Backend.swiglu}. */
  readonly swiglu: Backend["swiglu"] = rows.swiglu;
  /** See {@linkcode Backend.geglu}. */
  readonly geglu: Backend["geglu"] = rows.geglu;
  /** See {@linkcode Backend.gatherRows}. */
  readonly gatherRows: Backend["gatherRows"] = rows.gatherRows;
  /** See {@linkcode Backend.scatterAddRows}. */
  readonly scatterAddRows: Backend["scatterAddRows"] = rows.scatterAddRows;
  /** See {@linkcode Backend.add}. */
  readonly add: Backend["add"] = (x, delta, only) => {
    if (only === undefined) rows.add(x, delta);
    else onKept(only, x, [delta], rows.add);
  };
  /** See {@linkcode Backend.storeRows}. */
  readonly storeRows: Backend["storeRows"] = rows.storeRows;
  /** See {@linkcode Backend.rowNorms}. */
  readonly rowNorms: Backend["rowNorms"] = rows.rowNorms;
  /** See {@linkcode Backend.givesShares}. */
  readonly givesShares = true;
  /** See {@linkcode Backend.movesRows}. */
  readonly movesRows = true;
  /** See {@linkcode Backend.attention}. */
  readonly attention: Backend["attention"] = attention;
  /** See {@linkcode Backend.nll}. */
  readonly nll: Backend["nll"] = nll;
  /** See {@linkcode Backend.compareLogits}. */
  readonly compareLogits: Backend["compareLogits"] = compareLogits;
  /** See {@linkcode Backend.kvFilterScan}. */
  readonly kvFilterScan: Backend["kvFilterScan"] = (spec, state, input, start, count, output) =>
    scanLayer(spec, state, input as Parameters<typeof scanLayer>[2], start, count, output);
  /** See {@linkcode Backend.kvFilterObserve}. */
  readonly kvFilterObserve: Backend["kvFilterObserve"] = observeLayer;
  readonly #batch = batchOps(this);
  /** See {@linkcode Backend.kvFilterSigns}. */
  readonly kvFilterSigns: Backend["kvFilterSigns"] = this.#batch.kvFilterSigns;
  /** See {@linkcode Backend.kvFilterStep}. */
  readonly kvFilterStep: Backend["kvFilterStep"] = this.#batch.kvFilterStep;
  /** See {@linkcode Backend.kvKeyStep}. */
  readonly kvKeyStep: Backend["kvKeyStep"] = this.#batch.kvKeyStep;
  /** See {@linkcode Backend.kvFilterObserveBatch}. */
  readonly kvFilterObserveBatch: Backend["kvFilterObserveBatch"] = this.#batch.kvFilterObserveBatch;
  /** See {@linkcode Backend.attentionDecode}. */
  readonly attentionDecode: Backend["attentionDecode"] = this.#batch.attentionDecode;
  /** See {@linkcode Backend.advance}. */
  readonly advance: Backend["advance"] = this.#batch.advance;
  /** See {@linkcode Backend.argmax}. */
  readonly argmax: Backend["argmax"] = this.#batch.argmax;
  /** See {@linkcode Backend.row}. */
  readonly row: Backend["row"] = this.#batch.row;
  /** See {@linkcode Backend.write}. */
  readonly write: Backend["write"] = this.#batch.write;
  /** See {@linkcode Backend.copyRows}. */
  readonly copyRows: Backend["copyRows"] = this.#batch.copyRows;
}
