/** Merged as kvpress's `MergingPress` does, after Token Merging (arXiv 2210.09461) and D2O (arXiv 2406.13035). */
import { keydiffCache } from "./keydiff_cache.ts";
import type { EvictionMethod } from "../protocol/method.ts";

export const keydiffMerge: EvictionMethod<"keydiff-merge"> = {
  ...keydiffCache,
  name: "keydiff-merge",
  help: "as keydiff-cache; merges an evicted value into that of the most similar key that stays",
  reads: () => [{ signal: "keys" }, { signal: "values" }],
  merges: true,
};
