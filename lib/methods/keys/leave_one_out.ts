/** Minus the root mean square, over later queries from afar, of the change of their outputs without the token. */
import type { RuleMethod } from "../protocol/method.ts";

export const leaveOneOut: RuleMethod<"leave-one-out"> = {
  name: "leave-one-out",
  help: "how little the attention of queries from afar would change without the token",
  reads: () => ["change"],
  labels: { queryAware: true },
  score: ({ change }) => -change,
};
