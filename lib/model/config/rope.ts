/** Rotary embedding: how fast each pair of a head's values turns with the position. */
import { type HostTensor, hostTensor } from "../../tensor.ts";

/** @internal The rotary embedding of a layer's queries and keys. */
export interface Rope {
  /** Base: pair i turns by theta^(-2i/dims) from one position to the next, before `factors`. */
  readonly theta: number;
  /** Values of a head that are turned, from the first on; the rest stays. Default: all. */
  readonly dims?: number;
  /** Divisor of each pair's angle, [dims / 2]. Default: 1. */
  readonly factors?: readonly number[];
  /** Factor on the length of the rotated vectors. Default: 1. */
  readonly magnitude?: number;
}

/**
 * The table that {@linkcode Backend.rope} takes: angle and factor on the length of each pair, [headDim / 2, 2] f64.
 *
 * @throws {RangeError} If there are more `dims` than a head has, or not a factor for each pair.
 *
 * @example
 * ```ts
 * const { data } = createTurns({ theta: 100, dims: 4, factors: [1, 2], magnitude: 3 }, 6);
 * console.assert(data.join() === "1,3,0.05,3,0,1");
 * ```
 */
export function createTurns(rope: Rope, headDim: number): HostTensor {
  const { theta, dims = headDim, factors, magnitude = 1 } = rope, pairs = dims / 2;
  if (!Number.isInteger(pairs) || dims > headDim || (factors?.length ?? pairs) !== pairs) {
    throw new RangeError(
      `Cannot turn ${dims} values of heads of ${headDim} by ${factors?.length ?? "no"} factors: ` +
        "expected an even number, at most the head's, and a factor for each pair",
    );
  }
  const turns = new Float64Array(headDim);
  for (let i = 0; i < headDim / 2; i++) {
    turns[2 * i] = i < pairs ? theta ** (-2 * i / dims) / (factors?.[i] ?? 1) : 0;
    turns[2 * i + 1] = i < pairs ? magnitude : 1;
  }
  return hostTensor("f64", [headDim / 2, 2], turns);
}
