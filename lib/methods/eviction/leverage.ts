/** Key side: keys of small leverage go (LeverageScore of Compactor, arXiv 2507.08143), by a running Gram matrix. */
import { decomposeCholesky, solveLower } from "../../math/cholesky.ts";
import type { EvictionMethod } from "../protocol/method.ts";

/** Added to the Gram matrix's diagonal, as in kvpress. */
const JITTER = 1e-2;

/**
 * Per head x' (X'X + jitter)^-1 x, where x is the key before rotary embedding, less the mean key. Mean and Gram matrix
 * are those of all keys so far, evicted ones included. kvpress first sketches the keys at random, to be cheaper.
 * Memory: per head the number of keys, their sum [d], and the sum of their outer products [d, d].
 */
export const leverage: EvictionMethod<"leverage"> = {
  name: "leverage",
  help:
    "evicts keys that all others explain well: leverage scores by a running Gram matrix, without the original's sketch",
  evicts: true,
  reads: () => [{ signal: "keys" }],
  keyState: "pre-rope",
  memory: {
    size: ({ numKvHeads, headDim }) => numKvHeads * (1 + headDim + headDim * headDim),
    absorb(memory, { key }, { numKvHeads, headDim: d }) {
      for (let head = 0; head < numKvHeads; head++) {
        const own = memory.subarray(head * (1 + d + d * d)), k = key.subarray(head * d, (head + 1) * d);
        own[0]! += 1;
        for (let i = 0; i < d; i++) {
          own[1 + i]! += k[i]!;
          for (let j = 0; j <= i; j++) own[1 + d + i * d + j]! += k[i]! * k[j]!;
        }
      }
    },
  },
  score(live) {
    const { numKvHeads, headDim: d } = live.shape;
    const known = Array.from({ length: numKvHeads }, (_, head) => {
      const own = live.memory.subarray(head * (1 + d + d * d)),
        mean = own.slice(1, 1 + d).map((x) => x / own[0]!);
      const gram = new Float64Array(d * d);
      for (let i = 0; i < d; i++) {
        for (let j = 0; j <= i; j++) {
          gram[i * d + j] = gram[j * d + i] = own[1 + d + i * d + j]! - own[0]! * mean[i]! * mean[j]! +
            (i === j ? JITTER : 0);
        }
      }
      return { mean, L: decomposeCholesky(gram, d) };
    });
    const x = new Float64Array(d);
    return known.map(({ mean, L }, head) =>
      Float64Array.from(live.tokens.map(({ key }) => {
        for (let i = 0; i < d; i++) x[i] = key[head * d + i]! - mean[i]!;
        solveLower(L, x, x);
        return x.reduce((sum, y) => sum + y * y, 0);
      }))
    );
  },
};
