/** Key side: evicts tokens with small key and value compared with their neighbours' (CurDKV, arXiv 2509.15038). */
import { byHead, notedScores } from "../protocol/live_keys.ts";
import type { EvictionMethod } from "../protocol/method.ts";

/** Tokens of the disjoint windows in which squares are compared, as in kvpress. */
const WINDOW = 16;

const square = (x: Float32Array) => x.reduce((sum, y) => sum + y * y, 0);

/**
 * Per head norm(k)^2 * norm(v)^2, each as a fraction of its sum over the token's window of 16. A token is scored when
 * its window is complete, and stays before that. kvpress divides each head's scores by their sum before it averages
 * heads; here they are averaged as they are. `cur` has neither windows nor heads.
 */
export const curdkv: EvictionMethod<"curdkv"> = {
  name: "curdkv",
  help:
    "evicts tokens whose key and value are small compared with their neighbours (adapted from CurDKV: kvpress' CUR, its " +
    "heads not evened out)",
  evicts: true,
  reads: () => [{ signal: "keys" }, { signal: "values" }],
  score({ shape, tokens, at }) {
    for (const [window, own] of Map.groupBy(tokens, ({ position }) => Math.floor(position / WINDOW))) {
      if ((window + 1) * WINDOW > at || own.every(({ noted }) => noted)) continue;
      const [keys, values] = [
        byHead({ shape, tokens: own }, square),
        byHead({ shape, tokens: own }, (_, v) => square(v)),
      ];
      const share = (row: Float64Array, i: number) => row[i]! / (row.reduce((a, b) => a + b, 0) || 1);
      own.forEach((token, i) =>
        token.noted = keys!.map((row, head) => share(row, i) * share(values![head]!, i))
      );
    }
    return notedScores({ shape, tokens });
  },
};
