/** Attention for the tokens that a router finds to matter (after Mixture-of-Depths, arXiv 2404.02258). */
import { norm } from "../filter/similarity.ts";
import type { RuleMethod } from "./method.ts";

/**
 * The norm of the residual stream, the longest skipped, to which attention adds least: what an untrained router has to go
 * by. With `--threshold topk` a layer takes the top k of the whole sequence, as the paper does in training; else the share is
 * held online. Style: the paper trains its router with the model, and routes tokens round the MLP too.
 */
export const modStyle: RuleMethod<"mod-style"> = {
  name: "mod-style",
  help:
    "least norm of the residual stream, an untrained router (after Mixture-of-Depths; --threshold topk as there)",
  reads: () => ["residual"],
  looks: { main: false },
  score: ({ position, residual }) => position === 0 ? NaN : norm(residual, 0, residual.length),
};
