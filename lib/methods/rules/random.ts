/** Chance: the control that every claim must beat at the same achieved ratio. */
import { randomScore } from "../../random.ts";
import { type RuleMethod, SEED } from "../method.ts";

const options = { seed: SEED } as const;

/** A hash of seed, chunk, layer and position, uniform in [0, 1). */
export const random: RuleMethod<"random", typeof options> = {
  name: "random",
  help: "chance: a control",
  native: 8,
  options,
  reads: () => [],
  looks: { chance: true },
  score: ({ layer, chunk, position }, { seed }) =>
    position === 0 ? NaN : randomScore(seed, chunk, layer, position),
};
