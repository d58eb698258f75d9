/** Key side: evicts tokens that vary least compared with the next block (LagKV, arXiv 2504.04704). */
import { byHead, type LiveToken, notedScores } from "../protocol/live_keys.ts";
import type { EvictionMethod } from "../protocol/method.ts";
import { softmax } from "./softmax.ts";

/**
 * Per head the token's rank in its block, [0, 1), by the mean of two softmaxes over the block. One is of the key's
 * standard deviation over channels, the other of the value's. Both are scaled by the least and the greatest of the next
 * block. Blocks have `block` tokens from the warm-up on; kvpress has 128. A token stays until the next block is
 * complete.
 */
export const lagkv: EvictionMethod<"lagkv"> = {
  name: "lagkv",
  help:
    "evicts tokens that vary least compared with the next block, by rank within their block (kvpress: LagKV)",
  evicts: true,
  reads: () => [{ signal: "keys" }, { signal: "values" }],
  score({ shape, tokens, at, warmup, block }) {
    const blocks = Map.groupBy(tokens, ({ position }) => Math.floor((position - warmup) / block));
    for (const [index, own] of blocks) {
      const next = blocks.get(index + 1);
      if (index < 0 || next === undefined || warmup + (index + 2) * block > at || own[0]!.noted) continue;
      const ranks = rank(own, next, shape);
      own.forEach((token, i) => token.noted = ranks.map((row) => row[i]! / block));
    }
    return notedScores({ shape, tokens });
  },
};

type Shape = Parameters<typeof lagkv.score>[0]["shape"];

function rank(own: readonly LiveToken[], next: readonly LiveToken[], shape: Shape): Int32Array[] {
  const [keys, values] = [(k: Float32Array) => k, (_: Float32Array, v: Float32Array) => v]
    .map((part) => weigh(own, next, shape, part));
  return keys!.map((row, head) => {
    const scores = row.map((x, i) => (x + values![head]![i]!) / 2);
    const order = Int32Array.from(scores, (_, i) => i).sort((a, b) => scores[a]! - scores[b]! || a - b);
    return Int32Array.from(scores, (_, i) => order.indexOf(i));
  });
}

/** Softmax over a block's tokens of the deviation over channels, scaled by the next block, [H][tokens]. */
function weigh(
  own: readonly LiveToken[],
  next: readonly LiveToken[],
  shape: Shape,
  part: (key: Float32Array, value: Float32Array) => Float32Array,
): Float64Array[] {
  const { numKvHeads, headDim } = shape;
  const low = Array.from({ length: numKvHeads }, () => new Float64Array(headDim).fill(Infinity));
  const high = low.map((row) => row.map(() => -Infinity));
  byHead({ shape, tokens: next }, (key, value, head) => {
    part(key, value).forEach((x, i) => {
      low[head]![i] = Math.min(low[head]![i]!, x);
      high[head]![i] = Math.max(high[head]![i]!, x);
    });
    return 0;
  });
  return byHead({ shape, tokens: own }, (key, value, head) => {
    const scaled = Float64Array.from(
      part(key, value),
      (x, i) => (x - low[head]![i]!) / (high[head]![i]! - low[head]![i]! || 1),
    );
    const mean = scaled.reduce((a, b) => a + b, 0) / headDim;
    return Math.sqrt(scaled.reduce((sum, x) => sum + (x - mean) ** 2, 0) / (headDim - 1));
  }).map(softmax);
}
