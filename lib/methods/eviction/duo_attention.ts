/** Key side: heads that attend far back keep everything, the others sinks and a window (DuoAttention, arXiv 2410.10819). */
import type { EvictionMethod } from "../protocol/method.ts";
import type { ProbedLayer } from "../protocol/pruner.ts";
import { softmax } from "./softmax.ts";
import { streaming } from "./streaming.ts";

/** Positions over which the mean query attends to mean keys, as in kvpress. */
const POSITIONS = 500;

/**
 * How far back each KV head attends, [numKvHeads]; 1 = to the first position only. The mean query at the last position attends
 * to the mean key at every position. The score is the area below the cumulated probabilities, mean over a group's query heads.
 */
function scoreReach({ numHeads, numKvHeads, headDim: d, scale, meansAt }: ProbedLayer): number[] {
  const { query, keys } = meansAt(POSITIONS), group = numHeads / numKvHeads;
  const scores = new Array<number>(numKvHeads).fill(0);
  for (let head = 0; head < numHeads; head++) {
    const own = Math.floor(head / group), q = query.subarray(head * d, (head + 1) * d);
    const logits = Float64Array.from(
      keys,
      (key) => q.reduce((sum, x, i) => sum + x * key[own * d + i]!, 0) * scale,
    );
    let sum = 0, area = 0;
    for (const share of softmax(logits)) area += (sum += share) / POSITIONS;
    scores[own]! += area / group;
  }
  return scores;
}

/**
 * The original trains a gate per head. kvpress's `on_the_fly_scoring` scores passages of books; this method scores random ids.
 * kvpress takes a fraction of heads and a constant window. Here the ratio sets the number of heads that keep everything; the
 * others evict all tokens between the warm-up, which are the sinks, and the recent window.
 */
export const duoAttention: EvictionMethod<"duo-attention"> = {
  ...streaming,
  name: "duo-attention",
  help:
    "keeps KV heads whole whose mean query attends far back; the others evict all but sinks and the window (adapted from " +
    "kvpress's DuoAttention on the fly: scored on random ids)",
  heads: { tokens: 512, copies: 1, score: (layers) => layers.flatMap(scoreReach) },
};
