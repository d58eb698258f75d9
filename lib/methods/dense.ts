/** The null method: filters no layer, so a model runs as it is. */
import type { Pruner } from "./pruner.ts";

/**
 * Skips nothing.
 *
 * @example
 * ```ts
 * import { createDense } from "@tokenfilter/tokenfilter/methods";
 * console.assert(createDense().layers.length === 0);
 * ```
 */
export function createDense(): Pruner {
  const sequence = {
    decide: ({ layer }: { readonly layer: number }): never => {
      throw new RangeError(`Cannot filter layer ${layer}: the dense method filters none`);
    },
    fork: () => sequence,
  };
  return {
    name: "dense",
    layers: [],
    warmup: 0,
    keyState: "post-rope",
    wantsQueries: false,
    wantsOutputs: false,
    looksAhead: "nothing",
    cacheSkipped: false,
    recent: 0,
    start: () => sequence,
  };
}
