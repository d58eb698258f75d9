/** Common parts of methods that prune heads and channels: statistics of inputs, and the choice of units by score. */
import type { CostShape } from "../../cost.ts";
import { mean } from "../../math/mean.ts";

/** For each column of a matrix [rows, columns] the sum of a function of its values. */
export function sumColumns(
  matrix: ArrayLike<number>,
  columns: number,
  of: (x: number) => number,
): Float64Array {
  const sums = new Float64Array(columns);
  for (let i = 0; i < matrix.length; i++) sums[i % columns]! += of(matrix[i]!);
  return sums;
}

/**
 * Mean over each KV head's fraction of the columns of the output projection: those of its query heads.
 *
 * @param scores [columns] f64, a multiple of `numKvHeads`.
 * @returns [numKvHeads] f64.
 */
export function meanOfGroups(
  scores: Float64Array,
  { numKvHeads }: Pick<CostShape, "numKvHeads">,
): Float64Array {
  const width = scores.length / numKvHeads;
  return Float64Array.from(
    { length: numKvHeads },
    (_, group) => mean(scores.subarray(group * width, (group + 1) * width)),
  );
}

/**
 * Numbers of KV heads, with their query heads, and of MLP channels to remove from a layer, for a fraction of its
 * parameters. It removes as many whole heads as fit, as in the authors' code, and channels for the rest, because few KV
 * heads are a coarse measure.
 */
export function countGone(
  { numHeads, numKvHeads, headDim, intermediateSize }: CostShape,
  share: number,
): { readonly groups: number; readonly channels: number } {
  // In channels of the MLP, which have a row in two matrices and a column in the third.
  const group = (2 * numHeads / numKvHeads + 2) * headDim / 3, all = numKvHeads * group + intermediateSize;
  const groups = Math.min(Math.floor(share * numKvHeads), numKvHeads - 1);
  const channels = Math.round(share * all - groups * group);
  return { groups, channels: Math.min(channels, intermediateSize - 1) };
}

/** Indices of all but the `count` of lowest score, ascending; of equals the later stay, and at least one does. */
export function keepHighest(scores: ArrayLike<number>, count: number): number[] {
  const order = Array.from(scores, (score, i) => ({ score, i })).sort((a, b) =>
    a.score - b.score || a.i - b.i
  );
  return order.slice(Math.min(count, order.length - 1)).map(({ i }) => i).sort((a, b) => a - b);
}
