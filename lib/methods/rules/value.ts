import type { RuleMethod } from "../protocol/method.ts";

/** Mean over heads of the values' cosines with their anchors. */
export const value: RuleMethod<"value"> = {
  name: "value",
  help: "similarity of the values to the past",
  native: 4,
  looks: { place: 5 },
  score: ({ muV }) => muV,
  keyWeight: () => 0,
};
