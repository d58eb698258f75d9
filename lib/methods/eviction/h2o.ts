/** H2O (arXiv 2306.14048), causal: the attention that the token received from all queries so far, its own included. */
import type { EvictionMethod } from "../protocol/method.ts";

export const h2o: EvictionMethod<"h2o"> = {
  name: "h2o",
  help:
    "evicts tokens that received least attention in sum (adapted from H2O: for all heads alike, at block starts)",
  labels: { queryAware: true },
  evicts: true,
  reads: () => [{ signal: "attention" }],
  score: ({ signals }) => [signals.read("attention")],
};
