/**
 * Anchors, the running averages of keys and values that stand for the past; and the similarity of a token to it:
 * per-head cosines with the anchors, and their moments across heads.
 */

/** How an anchor follows the past: the fraction of it that stays when another token is absorbed after `absorbed` others. */
export const ANCHORS = {
  ema: ({ gamma }: { readonly gamma: number }): number => gamma,
  mean: (_: unknown, absorbed: number): number => absorbed / (absorbed + 1),
} as const;

/** Names of anchors. An anchor's place is its number in the C ABI. */
export const ANCHOR_NAMES: readonly (keyof typeof ANCHORS)[] = Object.keys(
  ANCHORS,
) as (keyof typeof ANCHORS)[];

/** Fraction of the old anchor that stays when a token is absorbed: 0 for the first one, then by the kind of anchor. */
export function decayOf(
  { anchor, gamma }: { readonly anchor: keyof typeof ANCHORS; readonly gamma: number },
  absorbed: number,
): number {
  return absorbed === 0 ? 0 : ANCHORS[anchor]({ gamma }, absorbed);
}

/** anchor = decay*anchor + (1 - decay)*x, in float64, stored in float32: both [H, d], x from `offset` on. */
export function absorb(anchor: Float32Array, x: Float32Array, offset: number, decay: number): void {
  for (let i = 0; i < anchor.length; i++) anchor[i] = decay * anchor[i]! + (1 - decay) * x[offset + i]!;
}

/** Mean and population variance, across KV heads, of the cosines of keys (K) and of values (V) with their anchors. */
export interface Moments {
  /** Mean over heads of the keys' cosines, in [-1, 1]. */
  muK: number;
  /** Population variance over heads of the keys' cosines, in [0, 1]. */
  varK: number;
  muV: number;
  varV: number;
}

/** Cosines `out`, [H], of each head's vector with its anchor, both [H, d], x from `offset` on; 0 where either has norm 0. */
export function cosines(x: Float32Array, offset: number, anchor: Float32Array, out: Float64Array): void {
  const headDim = anchor.length / out.length;
  for (let head = 0; head < out.length; head++) {
    const first = head * headDim;
    let dot = 0, xx = 0, aa = 0;
    for (let i = first; i < first + headDim; i++) {
      const a = x[offset + i]!, b = anchor[i]!;
      dot += a * b;
      xx += a * a;
      aa += b * b;
    }
    const norms = Math.sqrt(xx) * Math.sqrt(aa);
    out[head] = norms === 0 ? 0 : dot / norms;
  }
}

/** Population variance of some numbers about their mean. @param values [n] f64. */
export function variance(values: Float64Array, mean: number): number {
  let sum = 0;
  for (const value of values) sum += (value - mean) ** 2;
  return sum / values.length;
}

/**
 * Euclidean norm of the `size` numbers from `offset` on, summed in float64.
 *
 * @param x [at least offset + size] f32.
 */
export function norm(x: Float32Array, offset: number, size: number): number {
  let sum = 0;
  for (let i = offset; i < offset + size; i++) sum += x[i]! * x[i]!;
  return Math.sqrt(sum);
}
