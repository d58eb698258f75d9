import type { RuleMethod } from "../method.ts";

export const max: RuleMethod<"max"> = {
  name: "max",
  help: "the greater of what keys and values say",
  native: 6,
  looks: { place: 8, main: false },
  score: ({ muK, muV }) => Math.max(muK, muV),
};
