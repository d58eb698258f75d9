/** How likely tokens are, from a model's logits. */

/** A token and the logarithm of its probability. */
export interface TokenLogProbability {
  readonly id: number;
  /** In nats, at most 0. */
  readonly logProbability: number;
}

/** The probabilities behind a row of logits. */
interface LogProbabilities {
  /** The logarithm of a token's probability, in nats. */
  of(id: number): number;
  /** The likeliest tokens, the likeliest first, of equals the one of lower id. */
  top(count: number): TokenLogProbability[];
}

/** Reads logits, [vocabSize], as logarithms of probabilities, by a float64 sum; they must stay while these are used. */
export function logProbabilities(logits: Float32Array): LogProbabilities {
  let high = -Infinity, sum = 0;
  for (const logit of logits) high = Math.max(high, logit);
  for (const logit of logits) sum += Math.exp(logit - high);
  const total = high + Math.log(sum), of = (id: number) => logits[id]! - total;
  return {
    of,
    top(count) {
      const ids: number[] = [];
      for (let id = 0; id < logits.length; id++) {
        if (ids.length === count && !(logits[id]! > logits[ids.at(-1)!]!)) continue;
        let at = ids.length;
        while (at > 0 && logits[id]! > logits[ids[at - 1]!]!) at--;
        ids.splice(at, 0, id);
        if (ids.length > count) ids.pop();
      }
      return ids.slice(0, count).map((id) => ({ id, logProbability: of(id) }));
    },
  };
}
