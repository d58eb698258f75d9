import type { OptionTable } from "../../filter/option.ts";
import type { RuleMethod } from "../protocol/method.ts";

const options = {
  alpha: { type: "number", default: 0.5, range: "[0, 1]", help: "weight of the keys" },
} as const satisfies OptionTable;

export const fixedWeight: RuleMethod<"static", typeof options> = {
  name: "static",
  help: "mean of the similarities of keys and of values with a fixed weight",
  native: 2,
  options,
  looks: { place: 6, main: false },
  score: ({ muK, muV }, { alpha }) => alpha * muK + (1 - alpha) * muV,
  keyWeight: (_, { alpha }) => alpha,
};
