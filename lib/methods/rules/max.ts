import type { RuleMethod } from "../protocol/method.ts";

export const max: RuleMethod<"max"> = {
  name: "max",
  help: "greater one of the similarities of keys and of values",
  native: 6,
  looks: { place: 8, main: false },
  score: ({ muK, muV }) => Math.max(muK, muV),
};
