import type { RuleMethod } from "../protocol/method.ts";

export const min: RuleMethod<"min"> = {
  name: "min",
  help: "lesser one of the similarities of keys and of values",
  native: 5,
  looks: { place: 7, main: false },
  score: ({ muK, muV }) => Math.min(muK, muV),
};
