import { norm } from "../../filter/similarity.ts";
import type { RuleMethod } from "../protocol/method.ts";

/**
 * The norm of the residual stream before the block; the longest are skipped, as attention adds least to them. A control for
 * routers such as that of Mixture-of-Depths (arXiv 2404.02258), which are trained with the model.
 */
export const inputNorm: RuleMethod<"input-norm"> = {
  name: "input-norm",
  help:
    "norm of the residual stream before the block, the longest skipped: the signal of an untrained router",
  reads: () => ["residual"],
  looks: { main: false },
  score: ({ position, residual }) => position === 0 ? NaN : norm(residual, 0, residual.length),
};
