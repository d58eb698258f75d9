/** The random baseline that every claim must beat at the same ratio: a hash of seed, chunk, layer and position, in [0, 1). */
import { randomScore } from "../../math/random.ts";
import { type RuleMethod, SEED } from "../protocol/method.ts";

const options = { seed: SEED } as const;

export const random: RuleMethod<"random", typeof options> = {
  name: "random",
  help: "random baseline",
  native: 8,
  options,
  reads: () => [],
  looks: { random: true },
  score: ({ layer, chunk, position }, { seed }) =>
    position === 0 ? NaN : randomScore(seed, chunk, layer, position),
};
