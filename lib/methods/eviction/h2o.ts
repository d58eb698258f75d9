/** Key side: what has received least attention goes (H2O, arXiv 2306.14048), in its causal form. */
import type { EvictionMethod } from "../method.ts";

/** Sum, over the queries computed so far, of the probability that they gave the token, its own included. */
export const h2o: EvictionMethod<"h2o"> = {
  name: "h2o",
  help: "what has received least attention in sum goes (H2O-style: for all heads alike, and at block starts)",
  labels: { queryAware: true },
  evicts: true,
  reads: ["attention"],
  score: ({ tokens }) => [Float64Array.from(tokens, ({ received }) => received)],
};
