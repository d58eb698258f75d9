import type { RuleMethod } from "../method.ts";

export const product: RuleMethod<"product"> = {
  name: "product",
  help: "the product of what keys and values say",
  native: 7,
  looks: { place: 9, main: false },
  score: ({ muK, muV }) => muK * muV,
};
