/** Minus the mean probability that later queries, those that were computed, gave the token. */
import type { RuleMethod } from "../protocol/method.ts";

export const received: RuleMethod<"received"> = {
  name: "received",
  help: "how little attention the token has received",
  reads: () => ["attention"],
  labels: { queryAware: true },
  score: ({ attention }) => -attention,
};
