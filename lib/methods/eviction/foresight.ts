/** Sum over all later queries of the probability, mean over heads, that each would give the token if no key went: a bound. */
import type { EvictionMethod } from "../method.ts";

export const foresight: EvictionMethod<"foresight"> = {
  name: "foresight",
  help: "what the queries still to come attend to least goes, looked at ahead: an upper bound",
  labels: { queryAware: true, phase: "prefill" },
  evicts: true,
  reads: [],
  looksAhead: true,
  score: ({ foreseen }) => [foreseen()],
};
