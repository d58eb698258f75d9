/** Token Filtering as a pruning method. */
import type { TokenFilterOptions } from "../filter/options.ts";
import { type FilterSequence, type FilterShape, TokenFilter } from "../filter/token_filter.ts";
import type { Pruner, PrunerContext, PrunerSequence } from "./pruner.ts";

/**
 * Binds Token Filtering to a model's shape.
 *
 * @throws {TypeError | RangeError} As {@linkcode TokenFilter}.
 *
 * @example
 * ```ts
 * import { createTokenFiltering } from "@tokenfilter/tokenfilter";
 * const shape = { numLayers: 8, numHeads: 4, numKvHeads: 2, headDim: 32, hiddenSize: 128 };
 * const pruner = createTokenFiltering(shape, { fusion: "learned", pruneRatio: 0.3 });
 * console.assert(pruner.layers.length === 6 && pruner.wantsOutputs);
 * ```
 */
export function createTokenFiltering(
  shape: FilterShape,
  options: TokenFilterOptions = {},
  { backend, trace }: PrunerContext = {},
): Pruner {
  const filter = new TokenFilter(shape, options, {
    scan: backend?.kvFilterScan,
    observe: backend?.kvFilterObserve,
  });
  const { fusion, features, threshold, warmup, keyState, cacheSkipped, recent } = filter.options;

  function wrap(sequence: FilterSequence, chunk: number): PrunerSequence {
    return {
      decide({ layer, keys, values, residual, normed, queries }, start) {
        const extra = { residual, normed, ...(queries && { queries }) };
        const decisions = sequence.scan(layer, keys, values, extra, start);
        trace?.(decisions, layer, chunk);
        return { taken: decisions.taken, keep: decisions.keep };
      },
      observe: (layer, outputNorms, residualNorms) => sequence.observe(layer, outputNorms, residualNorms),
      states: sequence.states,
      fork: () => wrap(sequence.fork(), chunk),
    };
  }

  return {
    name: "token-filtering",
    layers: filter.layers,
    warmup,
    keyState,
    wantsQueries: fusion === "learned" && features.includes("query"),
    wantsOutputs: fusion === "learned",
    looksAhead: threshold === "topk" ? "scores" : "nothing",
    cacheSkipped,
    recent,
    ...(trace === undefined && { specs: filter.specs }), // on a device nobody hears decisions
    start: (chunk = 0) => wrap(filter.start({ chunk }), chunk),
  };
}
