/**
 * The tensors of a batch of sequences in decode, one token of each a step, and the ops that {@linkcode Backend} has for it.
 *
 * A batch has slots, one a sequence; a slot whose position is negative is idle: nothing of it is read or written.
 */
import type { LayerSpec, LayerState } from "./filter/layer.ts";
import type { HostTensor, Tensor } from "./tensor.ts";

/** One layer's KV cache of a batch. */
export interface BatchCache {
  /** Keys and values of kept tokens, [batch, capacity, numKvHeads, headDim] f32, f16 or bf16. */
  readonly keys: Tensor;
  readonly values: Tensor;
  /** Their original positions, [batch, capacity] i32. */
  readonly positions: Tensor;
  /** Rows in use, [batch] i32. */
  readonly counts: Tensor;
  /** Keys and values of recently skipped tokens, [batch, recent, numKvHeads, headDim]: token t lies at t % recent. */
  readonly recentKeys: Tensor;
  readonly recentValues: Tensor;
  /** Their original positions, [batch, recent] i32, -1 = empty. */
  readonly recentPositions: Tensor;
}

/**
 * One filtered layer's state of a batch: the arrays of `LayerState`, one sequence after the other. Anchors are
 * [batch, numKvHeads, headDim] f32, the others [batch, length] f64.
 */
export interface BatchStates extends Readonly<Record<keyof LayerState, Tensor>> {
  /** Specification of the layer; its `chunk` counts for all sequences. */
  readonly spec: LayerSpec;
  /** Signs of the projections, [projections, hiddenSize] f32; empty where the rule has none. */
  readonly signs: Tensor;
}

/** @internal Which sequences' attention is computed in a layer. */
export interface BatchDecisions {
  /** 1 = its attention is computed, [batch] u8; 0 where skipped or idle. */
  readonly keep: Tensor;
  /** Slots of the kept sequences, ascending, [batch] i32. */
  readonly kept: Tensor;
  /** Their number, and a counter that is 0 before the first step, [2] i32. */
  readonly keptCount: Tensor;
  /** Numbers behind the decisions, where asked for, [7, batch] f64: columns of `ScanOutput`, as in `SCAN_COLUMNS`. */
  readonly columns?: Tensor;
}

/** Decisions about the keys and values of one layer of a batch, whose cache then takes skipped tokens too. */
export interface BatchKeys {
  /** Filter states that decide tokens as they arrive; evictions happen at the starts of their spec's blocks. */
  readonly states: BatchStates;
  /** Where each cached row ends, [batch, capacity] i32: no query there or later attends to it; 2^31 - 1 = never. */
  readonly ends: Tensor;
  /** The last decisions, [batch] u8: 1 = key and value stay, 0 = they go when they are decided, or the slot is idle. */
  readonly keep: Tensor;
  /** Numbers behind the decisions, as in {@linkcode BatchDecisions}. */
  readonly columns?: Tensor;
}

/** By how much outputs would change without keys: numbers of the queries of a block of tokens, [batch, Q, K]. */
export interface BatchChanges {
  /**
   * As `AttentionChanges` has it, f64: the query at position i fills row i % Q, of the key at position j the place j % K. What
   * it does not attend to gets 0.
   */
  readonly out: Tensor;
  /** Weights of the heads of the queries, [numHeads] f32. */
  readonly headWeights: Tensor;
  /** Position of each sequence's first key that is read, [batch] i32: less than K before any query. */
  readonly first: Tensor;
  /** Of keys fewer positions before the query than this, nothing need be written. */
  readonly distance: number;
}

/** Keys and values of one token of every sequence, of one layer, before its attention. */
export interface BatchRows {
  /** Keys that the filter looks at, [batch, numKvHeads, headDim] f32. */
  readonly filterKeys: Tensor;
  /** Keys and values that the cache takes, likewise. */
  readonly keys: Tensor;
  readonly values: Tensor;
  /** Residual stream, [batch, hiddenSize] f32. */
  readonly residual: Tensor;
  /** The attention's input after its norm, [batch, hiddenSize] f32. */
  readonly normed: Tensor;
  /** Queries, [batch, numHeads * headDim] f32, where the filter reads them. */
  readonly queries: Tensor | undefined;
  /** Position of each token, [batch] i32; negative = idle. */
  readonly positions: Tensor;
}

/** @internal Work that was recorded once, to be enqueued again and again with one call. */
export interface RecordedWork extends Disposable {
  launch(): void;
}

/**
 * @internal Ops of every backend for a decode step of a batch, next to those that take `only`. None waits for a device.
 */
export interface BatchOps {
  /** Random signs of a spec's projections, [projections, hiddenSize]; no rows where its rule has none. */
  kvFilterSigns(spec: LayerSpec): Tensor;
  /**
   * Decides one token of every sequence of a layer and appends it to the cache or the recent window. Without states all
   * are kept.
   *
   * @param cacheSkipped whether skipped tokens enter the cache all the same
   */
  kvFilterStep(
    states: BatchStates | undefined,
    cache: BatchCache,
    rows: BatchRows,
    cacheSkipped: boolean,
    decisions: BatchDecisions,
  ): void;
  /**
   * Decides whether key and value of the tokens that `kvFilterStep` has just cached stay, one of every sequence of a
   * layer. Where a block begins with a sequence's token, its rows that end there leave the cache, and those behind them
   * move up.
   */
  kvKeyStep(keys: BatchKeys, cache: BatchCache, rows: BatchRows): void;
  /** `learned`: takes in the kept sequences' outcomes, `output` and `residual` [batch, hiddenSize]. */
  kvFilterObserveBatch(
    states: BatchStates,
    decisions: BatchDecisions,
    output: Tensor,
    residual: Tensor,
  ): void;
  /**
   * Attention of the kept sequences: `queries`, `out` [batch, numHeads, headDim], `positions` [batch] i32. A query at
   * position i attends to keys at j > i - window, in the recent window too; with window 0, the default, to all.
   *
   * @param more `kvPlaces` as `AttentionArgs` has it; and room for what outputs would change without keys
   */
  attentionDecode(
    cache: BatchCache,
    queries: Tensor,
    positions: Tensor,
    decisions: BatchDecisions,
    scale: number,
    out: Tensor,
    window?: number,
    more?: {
      readonly kvPlaces?: { readonly places: Tensor; readonly of: number };
      readonly changes?: BatchChanges | undefined;
    },
  ): void;
  /** positions += 1 where not negative, [batch] i32. */
  advance(positions: Tensor): void;
  /** ids[i] = index of the largest of logits [T, vocabSize], the lowest on ties; `ids` [T] i32. */
  argmax(logits: Tensor, ids: Tensor): void;
  /** Row `index` of a tensor's first dimension, without a copy; shares its memory. */
  row(tensor: Tensor, index: number): Tensor;
  /** Rows [from, from + count), likewise. */
  rows(tensor: Tensor, from: number, count: number): Tensor;
  /** Overwrites a tensor, or a row of one, with values of its type and shape. */
  write(to: Tensor, values: HostTensor): void;
  /** Copies `count` rows [n] of `from`, from row `fromRow` on, to rows of `to` from `toRow` on; same type and width. */
  copyRows(from: Tensor, fromRow: number, to: Tensor, toRow: number, count: number): void;
}
