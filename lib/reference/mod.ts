/** Every op in plain TypeScript, as its definition reads and summed in float64: slow, and the truth for tests. */
import type { Backend } from "../backend.ts";
import { observeLayer, scanLayer } from "../filter/mod.ts";
import { emptyTensor, expectHostTensor, type HostTensor, resizedRows } from "../tensor.ts";
import { attention } from "./attention.ts";
import { batchOps, onKept } from "./batch.ts";
import { linear } from "./linear.ts";
import { compareLogits, nll } from "./logits.ts";
import * as rows from "./rows.ts";

export { dequantize } from "./dequantize.ts";

/** The ops; those made of others call them as `backend` has them. */
function opsOf(backend: Backend): Backend {
  const ops = { ...rows, attention, kvFilterScan: scanLayer, kvFilterObserve: observeLayer };
  return {
    name: "reference",
    description: "plain TypeScript, sums in float64",
    givesShares: true,
    movesRows: true,
    ...ops,
    ...batchOps(ops),
    nll,
    compareLogits,
    alloc: (dtype, shape) => emptyTensor(dtype, shape),
    upload: expectHostTensor,
    read: (tensor) => tensor as HostTensor,
    resizeRows: (tensor, count) => resizedRows(tensor as HostTensor, count),
    regrowRows: (tensor, count) => resizedRows(tensor as HostTensor, count),
    free() {},
    addRmsNorm(x, delta, weight, eps, out, only) {
      backend.add(x, delta, only);
      backend.rmsNorm(x, weight, eps, out);
    },
    linear(x, weight, out, only) {
      if (only === undefined) linear(x, weight, out);
      else onKept(only, out, [x], (out, x) => linear(x, weight, out));
    },
    linears(x, products, only, sameX) {
      products.forEach(({ weight, out }, i) => backend.linear(x, weight, out, only, sameX || i > 0));
    },
    gatedLinear(x, gate, up, activation) {
      backend.linears(x, [gate, up]);
      backend[activation](gate.out, up.out, gate.out);
    },
    rope(x, positions, turns, only) {
      if (only === undefined) rows.rope(x, positions, turns);
      else onKept(only, x, [positions], (x, positions) => rows.rope(x, positions, turns));
    },
    add(x, delta, only) {
      if (only === undefined) rows.add(x, delta);
      else onKept(only, x, [delta], rows.add);
    },
  };
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
export const ReferenceBackend: new () => Backend = class {
  constructor() {
    Object.assign(this, opsOf(this as unknown as Backend));
  }
} as new () => Backend;
