/** Sum over all later queries of the probability, mean over heads, that each would give the token: an upper bound. */
import type { EvictionMethod } from "../protocol/method.ts";

export const foresight: EvictionMethod<"foresight"> = {
  name: "foresight",
  help: "evicts tokens that later queries attend to least: a non-causal upper bound",
  labels: { queryAware: true, phase: "prefill" },
  evicts: true,
  reads: () => [],
  nonCausal: true,
  score: ({ foreseen }) => [foreseen()],
};
