/** Key side: keys near the mean direction of those in the cache go (KeyDiff, arXiv 2504.15364), block by block. */
import { norm } from "../../filter/similarity.ts";
import { byHead } from "./live_keys.ts";
import type { EvictionMethod } from "../method.ts";

/**
 * Per head minus the cosine of the key with the mean of the cached keys' directions. `keydiff` holds each key once against
 * all keys so far, in the cache or not.
 */
export const keydiffCache: EvictionMethod<"keydiff-cache"> = {
  name: "keydiff-cache",
  help:
    "evicts keys near the mean direction of those in the cache, block by block as in the paper of KeyDiff",
  evicts: true,
  reads: [],
  score(live) {
    const { headDim, numKvHeads } = live.shape;
    const sums = Array.from({ length: numKvHeads }, () => new Float64Array(headDim));
    byHead(live, (key, _, head) => {
      const length = Math.max(norm(key, 0, headDim), 1e-12);
      key.forEach((x, i) => sums[head]![i]! += x / length);
      return 0;
    });
    const sizes = sums.map((sum) => Math.hypot(...sum));
    return byHead(live, (key, _, head) => {
      const dot = key.reduce((total, x, i) => total + x * sums[head]![i]!, 0);
      const lengths = norm(key, 0, headDim) * sizes[head]!;
      return lengths === 0 ? 0 : -dot / lengths;
    });
  },
};
