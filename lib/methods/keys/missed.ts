import type { RuleMethod } from "../protocol/method.ts";

/**
 * Minus the attention received from afar times norm(v - m), with m the mean of the values so far, its own included,
 * over all KV heads. Without a key the others share its attention: the output then changes by about that product.
 */
export const missed: RuleMethod<"missed"> = {
  name: "missed",
  help: "how little attention the token gets from afar, times its value's distance from the mean value",
  reads: () => ["attention", "value"],
  labels: { queryAware: true },
  memory: {
    size: ({ numKvHeads, headDim }) => numKvHeads * headDim + 1,
    open: (_, { learned }) => ({
      score({ value, distant }) {
        const { length } = value, count = learned[length]! += 1;
        let squares = 0;
        for (let i = 0; i < length; i++) {
          learned[i]! += value[i]!;
          squares += (value[i]! - learned[i]! / count) ** 2;
        }
        return -distant * Math.sqrt(squares);
      },
    }),
  },
};
