/**
 * Pruning methods by name. A new method is a file of its own and one line in {@linkcode METHODS}; the contract test
 * then runs over it.
 * @module
 */
import type { FilterShape } from "../filter/token_filter.ts";
import { nearest } from "../nearest.ts";
import { createDense } from "./dense.ts";
import { createOracle } from "./oracle.ts";
import type { Pruner, PrunerContext } from "./pruner.ts";
import { createReplay } from "./replay.ts";
import { createTokenFiltering } from "./token_filtering.ts";

export * from "./pruner.ts";
export { createDense } from "./dense.ts";
export { createOracle, type OracleOptions } from "./oracle.ts";
export { createReplay, type ReplayOptions } from "./replay.ts";
export { createScored, type ScoredOptions, type ScoredToken, type TokenScore } from "./scored.ts";
export { createTokenFiltering } from "./token_filtering.ts";

/** Every method: binds its options to a model's shape. */
export const METHODS = {
  "token-filtering": createTokenFiltering,
  oracle: createOracle,
  dense: (_shape: FilterShape, _options?: Record<never, never>, _context?: PrunerContext): Pruner =>
    createDense(),
  replay: createReplay,
} as const;

/** A method's name. */
export type Method = keyof typeof METHODS;

/** Options of every method. */
export type MethodOptions = {
  readonly [M in Method]: NonNullable<Parameters<(typeof METHODS)[M]>[1]>;
};

/**
 * Makes a method by name.
 *
 * @throws {RangeError} If there is no such method; else as the method.
 *
 * @example
 * ```ts
 * import { createPruner } from "@tokenfilter/tokenfilter";
 * const shape = { numLayers: 8, numHeads: 4, numKvHeads: 2, headDim: 32, hiddenSize: 128 };
 * const pruner = createPruner("token-filtering", shape, { preset: "paper" });
 * console.assert(pruner.recent === 0);
 * ```
 */
export function createPruner<M extends Method>(
  method: M,
  shape: FilterShape,
  options: MethodOptions[M],
  context: PrunerContext = {},
): Pruner {
  if (!Object.hasOwn(METHODS, method)) {
    const known = nearest(method, Object.keys(METHODS));
    throw new RangeError(`Cannot prune by "${method}": no such method, the nearest is "${known}"`);
  }
  const factories: {
    readonly [N in Method]: (shape: FilterShape, options: MethodOptions[N], context: PrunerContext) => Pruner;
  } = METHODS;
  return factories[method](shape, options, context);
}
