/** Signals: numbers about tokens that a key side reads besides its own keys and values, and how it asks for them. */
export const SIGNALS = ["attention", "change"] as const;

/**
 * A signal of a computed query about a cached key. `attention`: the probability that it gave the key, mean over heads.
 * `change`: how much the query's output would change without the key, squared, as `AttentionChanges` defines it.
 * @internal
 */
export type Signal = (typeof SIGNALS)[number];

/** Rows of a layer's own tokens before its attention, as `LayerView` has them. */
export const VIEW_ROWS = ["keys", "values", "queries", "residual", "normed"] as const;

/** Rows that the tokens of the decided layer have themselves, and the name of each there. */
export const TOKEN_ROWS = { keys: "key", values: "value", queries: "query" } as const;

/** Rows that are known behind a layer. `mlp`: the MLP's output before it is added to the residual stream, [hiddenSize]. */
export const LATE_ROWS = ["mlp"] as const;

/** A signal of a token: a row of numbers. What a view does not have, the model computes where it is asked for. */
export type RowSignal = (typeof VIEW_ROWS | typeof LATE_ROWS)[number];

/**
 * Queries that a signal about keys is read of. `last`: mean over that number of queries, the last before the decision.
 * `beyond`: mean over the queries that are farther behind the key than this. Left out: sum over all queries since the key
 * came, its own included.
 */
export type QueryRange = { readonly last: number } | { readonly beyond: number };

/** A signal that a method reads, and of which layers. */
export interface Reading {
  readonly signal: Signal | RowSignal;
  /**
   * Layers, as distances from the one that is decided: -1 = the one before it. "below": all before it. Default: only its own.
   * A method that reads layers behind it decides once all layers have passed the tokens before a block.
   */
  readonly layers?: readonly number[] | "below";
  /** Of a signal about keys. */
  readonly queries?: QueryRange;
}

/** Signals that a model computes of a layer, beyond what a view has. @internal */
export interface LayerAsk {
  readonly rows: readonly RowSignal[];
  readonly keys: readonly Signal[];
  /** How many of the last queries before each block start are read; Infinity: all. */
  readonly last: number;
  /** Whether only keys that are not decided yet count. */
  readonly undecided: boolean;
  /** Signals about keys fewer positions before the query than this are not read. */
  readonly distance: number;
}

/** @internal Signals of R queries about U cached keys, [R, U]; valid until `observe` returns. */
export interface Signals {
  /** Positions of the queries, [R], ascending. */
  readonly positions: Int32Array;
  /** Positions of the keys, [U], ascending. */
  readonly keys: Int32Array;
  /** By signal, f64; 0 for a key that a query does not see. */
  readonly rows: { readonly [S in Signal]?: Float64Array };
  /** The KV head of the keys, where KV heads have rows of their own: its place among those that evict. */
  readonly unit?: number;
}

/** @internal A signal of T tokens of a layer, [T, width]; valid until `show` returns. */
export interface ShownRows {
  readonly signal: RowSignal;
  /** Position of the first of them. */
  readonly first: number;
  readonly count: number;
  readonly data: Float32Array | Float64Array;
}

/** Whether a reading is of queries about keys. */
export function isOfKeys({ signal }: Pick<Reading, "signal">): boolean {
  return (SIGNALS as readonly string[]).includes(signal);
}

/** Whether a reading is of rows that its layer has only behind its attention. */
export function isLate({ signal }: Pick<Reading, "signal">): boolean {
  return (LATE_ROWS as readonly string[]).includes(signal);
}
