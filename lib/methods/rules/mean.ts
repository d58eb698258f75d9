import type { RuleMethod } from "../protocol/method.ts";

export const mean: RuleMethod<"mean"> = {
  name: "mean",
  help: "mean of the similarities of keys and of values",
  native: 1,
  looks: { place: 3 },
  score: ({ muK, muV }) => (muK + muV) / 2,
  keyWeight: () => 0.5,
};
