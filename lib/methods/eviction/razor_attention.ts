/** Key side: induction and echo heads keep everything, the others sinks and a window (RazorAttention, arXiv 2407.15891). */
import type { EvictionMethod } from "../protocol/method.ts";
import type { HeadProbe, ProbedLayer } from "../protocol/pruner.ts";
import { softmax } from "./softmax.ts";
import { streaming } from "./streaming.ts";

/** Random ids, and how often they are read; the paper has 2,500 tokens. */
const TOKENS = 128, COPIES = 4;
/** Fractions of the heads that keep everything: those of the highest induction score, and of the highest echo score. */
const INDUCTION = 0.14, ECHO = 0.01;

/** Scores of each KV head: the largest ones of its query heads. */
interface Scores {
  readonly induction: Float64Array;
  readonly echo: Float64Array;
}

/** Mean probability that queries behind the first copy give to the same token in earlier copies (echo), and to those after it. */
export function scoreCopying(
  { numHeads, numKvHeads, headDim: d, scale, queries, keys }: ProbedLayer,
  { tokens, copies }: Pick<HeadProbe, "tokens" | "copies">,
): Scores {
  const length = queries.length / (numHeads * d),
    first = length - tokens * copies,
    group = numHeads / numKvHeads;
  const induction = new Float64Array(numKvHeads), echo = new Float64Array(numKvHeads);
  const counted = tokens * (copies - 1), logits = new Float64Array(length);
  for (let head = 0; head < numHeads; head++) {
    const own = Math.floor(head / group);
    let copied = 0, echoed = 0;
    for (let t = first + tokens; t < length; t++) {
      const q = queries.subarray((t * numHeads + head) * d, (t * numHeads + head + 1) * d);
      for (let i = 0; i <= t; i++) {
        const at = (i * numKvHeads + own) * d;
        let dot = 0;
        for (let a = 0; a < d; a++) dot += q[a]! * keys[at + a]!;
        logits[i] = dot * scale;
      }
      const shares = softmax(logits.subarray(0, t + 1));
      for (let same = t - tokens; same >= first; same -= tokens) {
        echoed += shares[same]! / counted;
        copied += shares[same + 1]! / counted;
      }
    }
    induction[own] = Math.max(induction[own]!, copied);
    echo[own] = Math.max(echo[own]!, echoed);
  }
  return { induction, echo };
}

/** The larger score of the heads that either of them chooses, 0 of the others. */
export function chooseHeads(layers: readonly Scores[]): number[] {
  const all = (name: keyof Scores) => layers.flatMap((layer) => [...layer[name]]);
  const best = (scores: readonly number[], fraction: number) =>
    scores.map((_, head) => head).sort((a, b) => scores[b]! - scores[a]! || a - b)
      .slice(0, Math.round(fraction * scores.length));
  const induction = all("induction"), echo = all("echo");
  const chosen = new Set([...best(induction, INDUCTION), ...best(echo, ECHO)]);
  return induction.map((score, head) => chosen.has(head) ? Math.max(score, echo[head]!) : 0);
}

/**
 * The original adds a compensation token: the mean of the evicted keys and values, weighted by their number. The attention
 * kernels have no such weights, so it is left out here. The window grows with the text, as in the original.
 */
export const razorAttention: EvictionMethod<"razor-attention"> = {
  ...streaming,
  name: "razor-attention",
  help:
    "keeps induction heads (14%) and echo heads (1%) whole; the others evict the oldest tokens (adapted from RazorAttention: " +
    "without its compensation token)",
  heads: {
    tokens: TOKENS,
    copies: COPIES,
    score: (layers) =>
      chooseHeads(layers.map((layer) => scoreCopying(layer, { tokens: TOKENS, copies: COPIES }))),
  },
};
