/** Key side: evicts tokens that the queries of the recent window attend to least (SnapKV, arXiv 2404.14469). */
import type { EvictionMethod } from "../protocol/method.ts";

/** Neighbours in the cache over which attention is averaged, as in kvpress. */
const KERNEL = 5;

const queriesOf = (recent: number) => ({ last: Math.max(recent, 1) });

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
  reads: ({ recent }) => [{ signal: "attention", queries: queriesOf(recent) }],
  score({ signals, tokens, at, recent }) {
    const given = signals.read("attention", { queries: queriesOf(recent) }), half = KERNEL >> 1;
    let old = tokens.length;
    while (old > 0 && tokens[old - 1]!.position >= at - recent) old--;
    return [given.map((own, i) => {
      if (i >= old) return own / KERNEL;
      let sum = 0;
      for (let near = Math.max(0, i - half); near < Math.min(old, i + half + 1); near++) sum += given[near]!;
      return sum / KERNEL;
    })];
  },
};
