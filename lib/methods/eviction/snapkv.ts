/** Key side: evicts tokens that the queries of the recent window attend to least (SnapKV, arXiv 2404.14469). */
import type { EvictionMethod } from "../protocol/method.ts";

/** Neighbours in the cache over which attention is averaged, as in kvpress. */
const KERNEL = 5;

/**
 * Mean probability that the last `recent` queries gave the token, averaged over it and its neighbours in the cache
 * beyond the recent window. Missing neighbours count as 0, as in the original's pooling.
 */
export const snapkv: EvictionMethod<"snapkv"> = {
  name: "snapkv",
  help:
    "evicts tokens that the recent window's queries attend to least, neighbours pooled (adapted from SnapKV: at every " +
    "block start; the original does it once, before the answer)",
  labels: { queryAware: true },
  evicts: true,
  reads: ["attention"],
  score({ attention, tokens, at, recent }) {
    const given = attention(Math.max(recent, 1)), half = KERNEL >> 1;
    const old = tokens.filter(({ position }) => position < at - recent).length;
    const padded = given.slice(0, old);
    return [given.map((_, i) => {
      const near = i < old ? padded.subarray(Math.max(0, i - half), i + half + 1) : given.subarray(i, i + 1);
      return near.reduce((sum, x) => sum + x, 0) / KERNEL;
    })];
  },
};
