/**
 * Cost of a forward pass: floating-point operations and bytes, computed only from shapes.
 *
 * Operations are those of the matrix products, where a multiplication and an addition count as two. Norms, rotary
 * embedding, softmax and the filter itself are left out (together under 1% of a layer).
 *
 * - key and value projections, per token: `4 * hiddenSize * numKvHeads * headDim`
 * - query projection, per queried token: `2 * hiddenSize * numHeads * headDim`
 * - output projection, per kept token: `2 * hiddenSize * numHeads * headDim`
 * - scores and value sum, per pair of query and visible key: `4 * numHeads * headDim`
 * - MLP (SwiGLU), per token: `6 * hiddenSize * intermediateSize`
 * - output layer, per token: `2 * hiddenSize * vocabSize`
 */
import type { FilterShape } from "./filter/layer.ts";

/** @internal The sizes that costs depend on. */
export interface CostShape extends Omit<FilterShape, "layers"> {
  /** Width inside the MLP. */
  readonly intermediateSize: number;
  /** Tokens in the vocabulary. */
  readonly vocabSize: number;
}

interface AttentionCounts {
  /** Tokens whose keys and values were projected. */
  readonly tokens: number;
  /** Tokens whose queries were projected. */
  readonly queried: number;
  /** Tokens whose attention was computed. */
  readonly kept: number;
  /** Pairs of a kept query and a key that it attends to. */
  readonly pairs: number;
}

/** Operations of one layer's attention block. */
export function attentionFlops(shape: CostShape, counts: AttentionCounts): number {
  return projectionFlops(shape, counts) + 4 * shape.numHeads * shape.headDim * counts.pairs;
}

/** Those of them that are projections: of keys, values, queries and outputs. */
export function projectionFlops(
  { hiddenSize, numHeads, numKvHeads, headDim }: CostShape,
  { tokens, queried, kept }: Omit<AttentionCounts, "pairs">,
): number {
  return 4 * hiddenSize * numKvHeads * headDim * tokens +
    2 * hiddenSize * numHeads * headDim * (queried + kept);
}

export function mlpFlops(shape: CostShape, tokens: number): number {
  return 6 * shape.hiddenSize * shape.intermediateSize * tokens;
}

export function outputFlops(shape: Pick<CostShape, "hiddenSize" | "vocabSize">, tokens: number): number {
  return 2 * shape.hiddenSize * shape.vocabSize * tokens;
}

/** Pairs of a query and a key in causal attention over `tokens` tokens, with a window that includes the query's own. */
export function windowPairs(tokens: number, window: number = Infinity): number {
  const whole = Math.min(tokens, window);
  return whole * (whole + 1) / 2 + (tokens > whole ? (tokens - whole) * whole : 0);
}
