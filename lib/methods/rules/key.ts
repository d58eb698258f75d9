import type { RuleMethod } from "../protocol/method.ts";

/** Mean over heads of the keys' cosines with their anchors. */
export const key: RuleMethod<"key"> = {
  name: "key",
  help: "similarity of the keys to the past",
  native: 3,
  looks: { place: 4 },
  score: ({ muK }) => muK,
  keyWeight: () => 1,
};
