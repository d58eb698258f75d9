/** Key side: what later queries will attend to least goes. It looks ahead: a bound for tables, not a method to use. */
import type { EvictionMethod } from "../method.ts";

/** Sum over all later queries of the text of the probability, mean over heads, that each would give it if no key went. */
export const foresight: EvictionMethod<"foresight"> = {
  name: "foresight",
  help: "what the queries still to come attend to least goes, looked at ahead: an upper bound",
  labels: { queryAware: true, phase: "prefill" },
  evicts: true,
  reads: [],
  looksAhead: true,
  score: ({ foreseen }) => [foreseen()],
};
