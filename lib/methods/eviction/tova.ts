/** TOVA (arXiv 2401.06104): the probability that the last query before the block start gave the token, mean over heads. */
import type { EvictionMethod } from "../protocol/method.ts";

export const tova: EvictionMethod<"tova"> = {
  name: "tova",
  help:
    "evicts tokens that the last query attends to least (adapted from TOVA: at block starts, not at every token)",
  labels: { queryAware: true },
  evicts: true,
  reads: () => [{ signal: "attention", queries: { last: 1 } }],
  score: ({ signals }) => [signals.read("attention", { queries: { last: 1 } })],
};
