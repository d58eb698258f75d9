/** Anchors: the running averages of keys and values that stand for the past. */

/** How an anchor follows the past: the share of it that stays when another token is absorbed after `absorbed` others. */
export const ANCHORS = {
  ema: ({ gamma }: { readonly gamma: number }): number => gamma,
  mean: (_: unknown, absorbed: number): number => absorbed / (absorbed + 1),
} as const;

/** Names of anchors. An anchor's place is its number in the C ABI. */
export const ANCHOR_NAMES: readonly (keyof typeof ANCHORS)[] = Object.keys(
  ANCHORS,
) as (keyof typeof ANCHORS)[];

/**
 * Share of the old anchor that stays when another token is absorbed.
 *
 * @param absorbed Tokens absorbed before, m.
 * @returns 0 for the first token, which sets the anchor to itself; then what the kind of anchor says.
 */
export function decayOf(
  { anchor, gamma }: { readonly anchor: keyof typeof ANCHORS; readonly gamma: number },
  absorbed: number,
): number {
  return absorbed === 0 ? 0 : ANCHORS[anchor]({ gamma }, absorbed);
}

/**
 * Absorbs a token: anchor = decay*anchor + (1 - decay)*x, computed in float64 and stored in float32.
 *
 * @param anchor [H, d], changed in place.
 * @param x Holds the token's vectors, [H, d], from `offset` on.
 */
export function absorb(anchor: Float32Array, x: Float32Array, offset: number, decay: number): void {
  for (let i = 0; i < anchor.length; i++) anchor[i] = decay * anchor[i]! + (1 - decay) * x[offset + i]!;
}
