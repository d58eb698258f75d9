/** The cached tokens, as methods rank them at every block start; and the merging of evicted values into others. */
import type { FilterShape } from "../../filter/sequence.ts";
import type { Spans } from "../../filter/blocks.ts";
import { norm } from "../../filter/similarity.ts";

export interface LiveToken {
  readonly position: number;
  /** Its key, [numKvHeads * headDim], in the form of the method's `keyState`. */
  readonly key: Float32Array;
  readonly value: Float32Array;
  /** Its query after rotary embedding, [numHeads * headDim], until it is absorbed; where the method reads queries. */
  readonly query?: Float32Array;
  /** Sum over the queries computed so far, its own included, of the mean over heads of the probability it got. */
  readonly received: number;
  /** Numbers that a method has stored for it, one per KV head: a score that stays. */
  noted?: readonly number[];
}

export interface LiveKeys extends Spans {
  readonly shape: FilterShape;
  /** The block start: no token from here on counts. */
  readonly at: number;
  readonly tokens: readonly LiveToken[];
  readonly memory: Float64Array;
  /**
   * For each token the mean, over the last `count` queries computed, of the mean over heads of the probability it got.
   */
  attention(count: number): Float64Array;
  /** Non-causal methods: for each token the attention from all queries from `at` on, in sum, if no key was evicted. */
  foreseen(): Float64Array;
}

/** Scores of a KV head each: `score` of every token's part of that head. */
export function byHead(
  { shape: { numKvHeads, headDim }, tokens }: Pick<LiveKeys, "shape" | "tokens">,
  score: (key: Float32Array, value: Float32Array, head: number) => number,
): Float64Array[] {
  return Array.from({ length: numKvHeads }, (_, head) => {
    const part = (row: Float32Array) => row.subarray(head * headDim, (head + 1) * headDim);
    return Float64Array.from(tokens, ({ key, value }) => score(part(key), part(value), head));
  });
}

const EPS = 1e-6;

/** The scores that were noted of tokens, by KV head; Infinity where none is noted yet. */
export function notedScores(
  { shape: { numKvHeads }, tokens }: Pick<LiveKeys, "shape" | "tokens">,
): Float64Array[] {
  return Array.from(
    { length: numKvHeads },
    (_, head) => Float64Array.from(tokens, ({ noted }) => noted?.[head] ?? Infinity),
  );
}

/**
 * Merges evicted values into those that stay, head by head. An evicted value is added to the value of the key of
 * greatest cosine among those that stay. Its weight is that cosine (0 where negative) times its fraction of both
 * values' norms. The sum is divided by 1 plus its weights, as kvpress's `MergingPress` does by default.
 *
 * @returns The values that change, [numKvHeads * headDim] each, by position; nothing given is changed.
 */
export function mergeValues(
  goes: readonly LiveToken[],
  stays: readonly LiveToken[],
  { numKvHeads, headDim: d }: Pick<FilterShape, "numKvHeads" | "headDim">,
): Map<number, Float32Array<ArrayBuffer>> {
  const merged = new Map<number, Float32Array<ArrayBuffer>>();
  for (let first = 0; first < numKvHeads * d; first += d) {
    const lengths = stays.map(({ key }) => Math.max(norm(key, first, d), EPS));
    const sums = new Map<LiveToken, { weight: number; readonly sum: Float64Array }>();
    for (const { key, value } of goes) {
      const length = Math.max(norm(key, first, d), EPS);
      let nearest = -1, most = -Infinity;
      stays.forEach((other, i) => {
        let dot = 0;
        for (let a = first; a < first + d; a++) dot += key[a]! * other.key[a]!;
        const cosine = dot / (length * lengths[i]!);
        if (cosine > most) [nearest, most] = [i, cosine];
      });
      if (!(most > 0)) continue;
      const target = stays[nearest]!, own = norm(value, first, d);
      const weight = most * own / (own + norm(target.value, first, d) + EPS);
      const into = sums.get(target) ?? { weight: 0, sum: new Float64Array(d) };
      into.weight += weight;
      for (let a = 0; a < d; a++) into.sum[a]! += weight * value[first + a]!;
      sums.set(target, into);
    }
    for (const [{ position, value }, { weight, sum }] of sums) {
      const row = merged.get(position) ?? Float32Array.from(value);
      for (let a = 0; a < d; a++) row[first + a] = (value[first + a]! + sum[a]!) / (1 + weight);
      merged.set(position, row);
    }
  }
  return merged;
}
