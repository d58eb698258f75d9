/**
 * The protected random baseline: random, but tokens of large value norm are spared. With the warm-up (the first tokens), the recent
 * window and such tokens protected, published scorers hardly differ from it.
 */
import type { LayerSpec } from "../../filter/layer.ts";
import type { OptionTable, Packed } from "../../filter/option.ts";
import { norm } from "../../filter/similarity.ts";
import { NUM_SLOTS } from "../../filter/slots.ts";
import { ScoreWindow } from "../../filter/threshold.ts";
import { randomScore } from "../../math/random.ts";
import { type RuleMethod, SEED } from "../protocol/method.ts";

const options = {
  seed: SEED,
  protect: {
    type: "number",
    default: 0.1,
    range: "(0, 1)",
    help: "fraction of the tokens, those of largest value norm, that are skipped last, {range}",
  },
} as const satisfies OptionTable;

/** Value norms to look back on. */
const NUM_NORMS = 256;

/**
 * A hash as of `random`, u in [0, 1). It is u - 1 where the norm of the token's values, all heads together, is above
 * the (1 - protect) quantile of those of the last 256 tokens.
 */
export const randomProtected: RuleMethod<"random-protected", typeof options> = {
  name: "random-protected",
  help: "random baseline that protects large values: the fair control",
  options,
  reads: () => ["value"],
  looks: { random: true },
  memory: {
    size: () => NUM_SLOTS + NUM_NORMS,
    open(spec, { learned }) {
      const { seed, protect } = spec as LayerSpec & Packed<typeof options>;
      const norms = new ScoreWindow({ numbers: learned, scores: learned.subarray(NUM_SLOTS) });
      return {
        score({ layer, chunk, position, value }) {
          const own = norm(value, 0, value.length);
          const isLarge = norms.size > 0 && own > norms.quantile(1 - protect);
          norms.push(own);
          return position === 0 ? NaN : randomScore(seed, chunk, layer, position) - Number(isLarge);
        },
      };
    },
  },
};
