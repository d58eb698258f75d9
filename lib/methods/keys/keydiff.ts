/** KeyDiff (arXiv 2504.15364): cos(k, mean of k / norm(k) over the tokens so far), the keys of all KV heads as one vector. */
import { norm } from "../../filter/similarity.ts";
import type { RuleMethod } from "../protocol/method.ts";

export const keydiff: RuleMethod<"keydiff"> = {
  name: "keydiff",
  help: "how near the key points to the mean direction of all keys so far",
  reads: () => ["key"],
  memory: {
    size: ({ numKvHeads, headDim }) => numKvHeads * headDim,
    open: (_, { learned: sum }) => ({
      score({ key }) {
        const length = norm(key, 0, key.length);
        if (length === 0) return 0;
        let dot = 0, squares = 0;
        for (let i = 0; i < sum.length; i++) {
          sum[i]! += key[i]! / length;
          dot += key[i]! * sum[i]!;
          squares += sum[i]! * sum[i]!;
        }
        return squares === 0 ? 0 : dot / (length * Math.sqrt(squares));
      },
    }),
  },
};
