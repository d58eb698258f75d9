/** Key side: keys near the mean direction of those in the cache go (KeyDiff, arXiv 2504.15364), block by block. */
import { norm } from "../../filter/similarity.ts";
import type { EvictionMethod } from "../protocol/method.ts";

/**
 * Per head minus the cosine of the key with the mean of the cached keys' directions. `keydiff` holds each key once against
 * all keys so far, in the cache or not.
 */
export const keydiffCache: EvictionMethod<"keydiff-cache"> = {
  name: "keydiff-cache",
  help:
    "evicts keys near the mean direction of those in the cache, block by block as in the paper of KeyDiff",
  evicts: true,
  reads: () => [{ signal: "keys" }],
  score({ shape: { headDim: d, numKvHeads }, tokens }) {
    return Array.from({ length: numKvHeads }, (_, head) => {
      const first = head * d, sum = new Float64Array(d);
      for (const { key } of tokens) {
        const length = Math.max(norm(key, first, d), 1e-12);
        for (let i = 0; i < d; i++) sum[i]! += key[first + i]! / length;
      }
      const size = Math.hypot(...sum);
      return Float64Array.from(tokens, ({ key }) => {
        let dot = 0;
        for (let i = 0; i < d; i++) dot += key[first + i]! * sum[i]!;
        const lengths = norm(key, first, d) * size;
        return lengths === 0 ? 0 : -dot / lengths;
      });
    });
  },
};
