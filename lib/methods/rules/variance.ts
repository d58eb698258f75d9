/** The paper's rule: the side on which the heads agree weighs more. */
import type { LayerSpec } from "../../filter/layer.ts";
import type { OptionTable, Packed } from "../../filter/option.ts";
import type { Moments } from "../../filter/similarity.ts";
import type { RuleMethod } from "../protocol/method.ts";

const options = {
  tau: { type: "number", default: 1, range: "[0, 64]", help: "sharpness of the weights, {range}" },
  lambda: {
    type: "number",
    default: 0,
    range: "[0, 64]",
    help: "how much disagreement of heads lowers the score",
  },
  eps: { type: "number", default: 1e-6, range: "(0, 1]", help: "added to variances before weighing" },
} as const satisfies OptionTable;

export type VarianceSpec = LayerSpec & Packed<typeof options>;

/**
 * Weight of the key side: (varV+eps)^tau / ((varK+eps)^tau + (varV+eps)^tau).
 * Written as a logistic function of the log ratio, which neither overflows nor rounds to 0/0 for any tau.
 */
export function varianceWeight(
  { varK, varV }: Pick<Moments, "varK" | "varV">,
  { tau, eps }: VarianceSpec,
): number {
  return 1 / (1 + Math.exp(tau * (Math.log(varK + eps) - Math.log(varV + eps))));
}

/** Weighted mean of both sides, each lowered by lambda standard deviations over its heads. */
export const variance: RuleMethod<"variance", typeof options> = {
  name: "variance",
  help:
    "weighted mean of the similarities of keys and of values: the side on which the heads agree weighs more",
  native: 0,
  options,
  looks: { place: 1 },
  inverted: true,
  comparedWith: ["key", "value", "mean"],
  score(token, spec) {
    const wK = varianceWeight(token, spec);
    const k = token.muK - spec.lambda * Math.sqrt(token.varK);
    const v = token.muV - spec.lambda * Math.sqrt(token.varV);
    return Math.min(1, Math.max(-1, wK * k + (1 - wK) * v));
  },
  keyWeight: varianceWeight,
};
