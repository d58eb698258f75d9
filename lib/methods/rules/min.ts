import type { RuleMethod } from "../method.ts";

export const min: RuleMethod<"min"> = {
  name: "min",
  help: "the lesser of what keys and values say",
  native: 5,
  looks: { place: 7, main: false },
  score: ({ muK, muV }) => Math.min(muK, muV),
};
