/** Key side: evicts tokens that later queries are expected to attend to least (ExpectedAttention, arXiv 2510.00636). */
import type { FilterShape } from "../../filter/sequence.ts";
import { norm } from "../../filter/similarity.ts";
import type { LiveToken } from "../protocol/live_keys.ts";
import type { EvictionMethod } from "../protocol/method.ts";
import { softmax } from "./softmax.ts";

/** Queries over which their mean and spread are taken, as weights that fade. */
const HORIZON = 64;

/** Moments of the queries of one head: mean [d] and covariance [d, d], which stand for those of later queries. */
interface QueryMoments {
  readonly mean: Float64Array;
  readonly covariance: Float64Array;
}

/**
 * Expected attention times the value's norm, [numKvHeads][tokens]: softmax over tokens of q.k/sqrt(d) + k'Ck/(2d), mean over
 * the query heads of a group. As kvpress has it, with its `epsilon` 0.
 */
export function scoreExpected(
  moments: readonly QueryMoments[],
  tokens: readonly Pick<LiveToken, "key" | "value">[],
  { numHeads, numKvHeads, headDim: d }: Pick<FilterShape, "numHeads" | "numKvHeads" | "headDim">,
): Float64Array[] {
  const group = numHeads / numKvHeads,
    scores = Array.from({ length: numKvHeads }, () => new Float64Array(tokens.length));
  moments.forEach(({ mean, covariance }, head) => {
    const own = Math.floor(head / group);
    const logits = Float64Array.from(tokens, ({ key }) => {
      const k = key.subarray(own * d, (own + 1) * d);
      let dot = 0, spread = 0;
      for (let i = 0; i < d; i++) {
        dot += mean[i]! * k[i]!;
        let below = 0; // the covariance is symmetric
        for (let j = 0, at = i * d; j < i; j++, at++) below += covariance[at]! * k[j]!;
        spread += k[i]! * (below + covariance[i * d + i]! * k[i]! / 2);
      }
      return dot / Math.sqrt(d) + spread / d;
    });
    softmax(logits).forEach((share, i) => scores[own]![i]! += share / group);
  });
  return scores.map((row, head) => row.map((x, i) => x * norm(tokens[i]!.value, head * d, d)));
}

/**
 * The original takes the mean and covariance of all queries before rotary embedding, and turns them by the mean rotation of
 * the 512 positions to come. Here the rotated queries of the recent past stand for those to come, with weights that fade by
 * 1/64 a token. Memory: the weights' sum, and per query head weighted sums of q [d] and of its outer products [d, d].
 */
export const expectedAttention: EvictionMethod<"expected-attention"> = {
  name: "expected-attention",
  help:
    "evicts tokens of least expected later attention times value norm (adapted from ExpectedAttention: recent queries, " +
    "unchanged, stand for later ones)",
  labels: { queryAware: true },
  evicts: true,
  reads: () => [{ signal: "keys" }, { signal: "values" }, { signal: "queries" }],
  memory: {
    size: ({ numHeads, headDim: d }) => 1 + numHeads * (d + d * d),
    absorb(memory, { query }, { numHeads, headDim: d }) {
      const fade = 1 - 1 / HORIZON, width = d + d * d;
      memory[0] = memory[0]! * fade + 1;
      for (let head = 0; head < numHeads; head++) {
        const own = memory.subarray(1 + head * width), q = query!.subarray(head * d, (head + 1) * d);
        for (let i = 0; i < d; i++) {
          own[i] = own[i]! * fade + q[i]!;
          for (let j = 0; j < d; j++) own[d + i * d + j] = own[d + i * d + j]! * fade + q[i]! * q[j]!;
        }
      }
    },
  },
  score({ shape, tokens, memory }) {
    const { numHeads, headDim: d } = shape;
    const moments = Array.from({ length: numHeads }, (_, head): QueryMoments => {
      const own = memory.subarray(1 + head * (d + d * d)), mean = own.slice(0, d).map((x) => x / memory[0]!);
      const covariance = own.slice(d, d + d * d)
        .map((x, at) => x / memory[0]! - mean[Math.floor(at / d)]! * mean[at % d]!);
      return { mean, covariance };
    });
    return scoreExpected(moments, tokens, shape);
  },
};
