import type { RuleMethod } from "../protocol/method.ts";

export const product: RuleMethod<"product"> = {
  name: "product",
  help: "product of the similarities of keys and of values",
  native: 7,
  looks: { place: 9, main: false },
  score: ({ muK, muV }) => muK * muV,
};
