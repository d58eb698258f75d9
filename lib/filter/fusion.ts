/**
 * Fusion: how the moments of a token's similarities become one score, its redundancy.
 * A new rule is one entry of {@linkcode FUSION}, and its name in `FUSION_RULES` of layer.ts.
 */
import { randomScore } from "../random.ts";
import type { FusionRule, LayerSpec } from "./layer.ts";
import type { Moments } from "./similarity.ts";

/** One rule. */
export interface FusionEntry {
  /** The score, before `invert`: high = like what was already seen. `t` is the token's index in its sequence. */
  score(moments: Moments, spec: LayerSpec, t: number): number;
  /**
   * Weight of the key side, as recorded; NaN where the rule has none, or takes it from moments that the first token
   * of a sequence does not have (undefined).
   */
  keyWeight(moments: Moments | undefined, spec: LayerSpec): number;
}

/** A rule of the moments alone, with a constant weight. */
function plain(
  score: (m: Moments, spec: LayerSpec) => number,
  weight: (spec: LayerSpec) => number = () => NaN,
): FusionEntry {
  return { score, keyWeight: (_, spec) => weight(spec) };
}

/**
 * Weight of the key side under `variance`: (varV+eps)^tau / ((varK+eps)^tau + (varV+eps)^tau).
 * Written as a logistic function of the log ratio, which neither overflows nor rounds to 0/0 for any tau.
 */
export function varianceWeight(m: Moments, spec: LayerSpec): number {
  const logRatio = Math.log(m.varK + spec.eps) - Math.log(m.varV + spec.eps);
  return 1 / (1 + Math.exp(spec.tau * logRatio));
}

/** The rules. `learned` is no function of the moments: it lives in learned.ts. */
export const FUSION: { readonly [R in Exclude<FusionRule, "learned">]: FusionEntry } = {
  variance: {
    score(m, spec) {
      const wK = varianceWeight(m, spec);
      const k = m.muK - spec.lambda * Math.sqrt(m.varK);
      const v = m.muV - spec.lambda * Math.sqrt(m.varV);
      return Math.min(1, Math.max(-1, wK * k + (1 - wK) * v));
    },
    keyWeight: (m, spec) => m === undefined ? NaN : varianceWeight(m, spec),
  },
  mean: plain((m) => (m.muK + m.muV) / 2, () => 0.5),
  static: plain((m, { alpha }) => alpha * m.muK + (1 - alpha) * m.muV, ({ alpha }) => alpha),
  key: plain((m) => m.muK, () => 1),
  value: plain((m) => m.muV, () => 0),
  min: plain((m) => Math.min(m.muK, m.muV)),
  max: plain((m) => Math.max(m.muK, m.muV)),
  product: plain((m) => m.muK * m.muV),
  random: {
    score: (_, spec, t) => randomScore(spec.seed, spec.chunk, spec.layer, t),
    keyWeight: () => NaN,
  },
};
