/** The null method: filters no layer, so a model runs as it is. */
import { definePruner, type Pruner } from "./pruner.ts";

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
  return definePruner({ name: "dense", layers: [], start: () => sequence });
}
