/** Anchors: the running averages of keys and values that stand for the past. */
import type { LayerSpec } from "./layer.ts";

/**
 * Share of the old anchor that stays when another token is absorbed.
 *
 * @param absorbed Tokens absorbed before, m.
 * @returns 0 for the first token, which sets the anchor to itself; then `gamma` (ema) or m/(m+1) (mean).
 */
export function decayOf(spec: LayerSpec, absorbed: number): number {
  if (absorbed === 0) return 0;
  return spec.anchor === "ema" ? spec.gamma : absorbed / (absorbed + 1);
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
