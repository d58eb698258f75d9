/** What is left in a cache, as methods that go through it again and again see it. */
import type { FilterShape } from "../../filter/sequence.ts";
import type { Spans } from "../../filter/blocks.ts";

export interface LiveToken {
  /** Its index in the sequence. */
  readonly position: number;
  /** Its key, [numKvHeads * headDim], as the method's `keyState` says. */
  readonly key: Float32Array;
  /** Its value, likewise. */
  readonly value: Float32Array;
  /** Its query after rotary embedding, [numHeads * headDim], until it is absorbed; where the method reads queries. */
  readonly query?: Float32Array;
  /** Sum over the queries computed so far, its own included, of the mean over heads of the probability it got. */
  readonly received: number;
  /** What a method has noted of it, one number a KV head: a score that stays. */
  noted?: readonly number[];
}

export interface LiveKeys extends Spans {
  readonly shape: FilterShape;
  /** The block start: no token from here on counts. */
  readonly at: number;
  /** Tokens before it that are left, ascending. */
  readonly tokens: readonly LiveToken[];
  /** What the method remembers of all tokens before it. */
  readonly memory: Float64Array;
  /** Of each token the mean, over the last `count` queries computed, of the mean over heads of the probability it got. */
  attention(count: number): Float64Array;
  /** Where the method looks ahead: of each token the sum of what the queries from `at` on would give it if no key went. */
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
