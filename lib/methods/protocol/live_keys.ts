/** The cached tokens, as methods rank them at every block start. */
import type { FilterShape } from "../../filter/sequence.ts";
import type { Spans } from "../../filter/blocks.ts";

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

/** The scores that were noted of tokens, by KV head; Infinity where none is noted yet. */
export function notedScores(
  { shape: { numKvHeads }, tokens }: Pick<LiveKeys, "shape" | "tokens">,
): Float64Array[] {
  return Array.from(
    { length: numKvHeads },
    (_, head) => Float64Array.from(tokens, ({ noted }) => noted?.[head] ?? Infinity),
  );
}
