/** The cached tokens, as methods rank them at every block start: a window on the signals of a layer. */
import type { Spans } from "../../filter/blocks.ts";
import type { FilterShape } from "../../filter/sequence.ts";
import type { QueryRange, Reading } from "./signals.ts";

export interface LiveToken {
  readonly position: number;
  /** Its id in the vocabulary; left out where rows come without tokens. */
  readonly id?: number;
  /** Its key, [numKvHeads * headDim] f32, in the form of the method's `keyState`; where the method reads keys. */
  readonly key: Float32Array;
  /** Its value, likewise; where the method reads values. */
  readonly value: Float32Array;
  /** Its query after rotary embedding, [numHeads * headDim] f32, until it is absorbed; where the method reads queries. */
  readonly query?: Float32Array | undefined;
  /** Numbers that a method has stored for it, one per KV head: a score that stays. */
  noted?: readonly number[];
}

/** Signals about the tokens of {@linkcode LiveKeys}. */
export interface LiveSignals {
  /**
   * A signal about each token, [tokens], or [tokens, width] of rows, f64; 0 where there is none.
   * Keys, values and queries of the decided layer are those that the tokens have.
   *
   * @param where The layer, 0-based; default: the one that is decided. The queries, as the method's `reads` has them.
   * @throws {TypeError} If the method's `reads` has no such signal of that layer.
   */
  read(
    signal: Reading["signal"],
    where?: { readonly layer?: number; readonly queries?: QueryRange },
  ): Float64Array;
}

export interface LiveKeys extends Spans {
  readonly shape: FilterShape;
  /** 0-based index of the layer. */
  readonly layer: number;
  /** The block start: no token from here on counts. */
  readonly at: number;
  readonly tokens: readonly LiveToken[];
  /** The text that a token adds, spaces included. @throws {TypeError} If rows come without a tokenizer. */
  textOf(token: LiveToken): string;
  readonly memory: Float64Array;
  readonly signals: LiveSignals;
  /** Non-causal methods: for each token the attention from all queries from `at` on, in sum, if no key was evicted. */
  foreseen(): Float64Array;
}

/** Scores of a KV head each: `score` of every token's part of that head, [numKvHeads][tokens] f64. */
export function byHead(
  { shape: { numKvHeads, headDim }, tokens }: Pick<LiveKeys, "shape" | "tokens">,
  score: (key: Float32Array, value: Float32Array, head: number) => number,
): Float64Array[] {
  return Array.from({ length: numKvHeads }, (_, head) => {
    const part = (row: Float32Array) => row.subarray(head * headDim, (head + 1) * headDim);
    return Float64Array.from(tokens, ({ key, value }) => score(part(key), part(value), head));
  });
}

/** The scores that were noted of tokens, by KV head, [numKvHeads][tokens] f64; Infinity where none is noted yet. */
export function notedScores(
  { shape: { numKvHeads }, tokens }: Pick<LiveKeys, "shape" | "tokens">,
): Float64Array[] {
  return Array.from(
    { length: numKvHeads },
    (_, head) => Float64Array.from(tokens, ({ noted }) => noted?.[head] ?? Infinity),
  );
}
