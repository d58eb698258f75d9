/**
 * The operations that a model and the filter need, one method each. `lib/reference/` does them in plain
 * TypeScript (the truth for tests), `ffi/` in native code; all take and fill tensors that the caller allocated.
 */
import type { BatchDecisions, BatchOps, RecordedWork } from "./batch_ops.ts";
import type { DType } from "./dtype.ts";
import type { FilterObserve, FilterScan } from "./filter/layer.ts";
import type { HostTensor, Tensor } from "./tensor.ts";

/** How much the outputs of attention would change without one key or another. */
export interface AttentionChanges {
  /**
   * Output to fill, shape of `shares`, f64: the sum over heads of headWeight (w / (1 - w) norm(v - o))^2. Here w is the
   * weight that the query gave the key in the head, with 1 - w at least {@linkcode LEAST_OTHERS}; v is the key's value
   * and o the head's output. Without the key, the output would be (o - w v) / (1 - w).
   */
  readonly out: Tensor;
  /** Weights of the heads of the queries, [numHeads] f32. */
  readonly headWeights: Tensor;
}

/** The least that the other keys of a query are taken to weigh together, where one is thought away. */
export const LEAST_OTHERS = 0.02;

/** @internal Arguments of {@linkcode Backend.attention}: R queries over n cached and m recent keys. */
export interface AttentionArgs {
  /** Queries, [R, numHeads, headDim] f32, positions ascending. */
  readonly queries: Tensor;
  /** Original position of each query, [R] i32, ascending. */
  readonly queryPositions: Tensor;
  /** Cached keys, [>= n, numKvHeads, headDim] f32, f16 or bf16; rows past n are ignored. */
  readonly keys: Tensor;
  /** Cached values, like `keys`. */
  readonly values: Tensor;
  /** Original positions of the cached rows, [>= n] i32, ascending. */
  readonly keyPositions: Tensor;
  /** Cached rows in use, n. A query attends to those at its own position or before it. */
  readonly numKeys: number;
  /**
   * Where each cached row ends, [>= n] i32: a query at position p attends to row r where
   * keyPositions[r] <= p < keyEnds[r]. Without it no row ends; a row with end 2^31 - 1 does not end either.
   */
  readonly keyEnds?: Tensor;
  /**
   * Window of each query, [R] i32. Negative: full attention, limited only by `keyPositions` and `keyEnds`. w >= 0:
   * local attention, only to cached rows whose position is below `sinks` or at most w before its own. Default: full.
   */
  readonly windows?: Tensor;
  /** Local queries attend to positions below it at any distance; 0 by default. It has no effect without `windows`. */
  readonly sinks?: number;
  /**
   * Where keys and values have some of the KV heads of `queries` and `out` only: which ones, ascending, [numKvHeads] i32 with
   * numKvHeads those of `keys`, and how many the queries have. The others' part of `out` stays as it is.
   */
  readonly kvPlaces?: { readonly places: Tensor; readonly of: number };
  /**
   * Optional output, of a backend that {@linkcode Backend.givesShares}: the mean over the keys' heads of the weight that each of
   * the last S queries gave to each of the last U of the n cached rows, [S, U] f64. It is 0 for rows that the query does
   * not attend to.
   */
  readonly shares?: Tensor;
  /** Shares and changes are 0 of keys fewer positions before the query than this; 0 by default. */
  readonly shareDistance?: number;
  /** Optional output besides `shares`: the changes of outputs without each of those keys. */
  readonly changes?: AttentionChanges;
  /** Keys of recently skipped tokens, [>= m, numKvHeads, headDim], dtype of `keys`. */
  readonly recentKeys: Tensor;
  /** Values of skipped tokens, like `recentKeys`. */
  readonly recentValues: Tensor;
  /** Original positions of the recent rows, [>= m] i32, ascending; none is also in the cache. */
  readonly recentPositions: Tensor;
  /** Recent rows in use, m. */
  readonly numRecent: number;
  /** A query at position i attends to a recent row at position j where 0 <= i - j <= recent. */
  readonly recent: number;
  /** Factor on the products of queries and keys, 1 / sqrt(headDim). */
  readonly scale: number;
  /** Attention output before the output projection, [R, numHeads, headDim] f32; 0 where a query attends to no row. */
  readonly out: Tensor;
}

/**
 * Pairs [KV head of the keys, query head] of a call, for each query head of the keys' KV heads.
 *
 * @param places Those of `kvPlaces`, where it is given.
 */
export function headsOfKeys(
  { queries, keys, kvPlaces }: Pick<AttentionArgs, "queries" | "keys" | "kvPlaces">,
  places?: ArrayLike<number>,
): readonly (readonly [kvHead: number, head: number])[] {
  const numKvHeads = keys.shape[1]!, group = queries.shape[1]! / (kvPlaces?.of ?? numKvHeads);
  return Array.from({ length: numKvHeads * group }, (_, i) => {
    const kvHead = Math.floor(i / group);
    return [kvHead, (places?.[kvHead] ?? kvHead) * group + i % group] as const;
  });
}

/** @internal Results of {@linkcode Backend.compareLogits}, one entry a row, in nats. */
export interface LogitComparison {
  /** Loss of the target under the second distribution. */
  readonly nll: Float64Array<ArrayBuffer>;
  /** Loss of the target under the first. */
  readonly baseNll: Float64Array<ArrayBuffer>;
  /** KL(first || second). */
  readonly kl: Float64Array<ArrayBuffer>;
  /** 1 where both have the same largest logit (lowest index on ties); 0 where one is NaN. */
  readonly agree: Uint8Array<ArrayBuffer>;
}

/**
 * Rounding of products with weights. `exact` (f32) rounds nothing; `bf16` rounds every factor in products of more than
 * 8 rows (on a GPU more than 16, or 64 by quantised weights), and fewer rows are exact. `int8` rounds activations to bytes,
 * each row in blocks of 32 values; weights of q4_0, q4_1, q8_0, q4_k, q5_k and q6_k stay as they are, and products with
 * others are exact. Not on a GPU.
 */
export const PRODUCTS = ["exact", "bf16", "int8"] as const;
/** @internal One of {@linkcode PRODUCTS}. */
export type Products = typeof PRODUCTS[number];

/** @internal One of the products of some rows of activations. */
export interface Product {
  /** Its matrix, [n, k] of any dtype. */
  readonly weight: Tensor;
  /** Output, [T, n]. */
  readonly out: Tensor;
}

/** @internal Source and destination of {@linkcode Backend.storeRows}. */
export interface StoredRows {
  /** A matrix, [T, n]. */
  readonly x: Tensor;
  /** Destination of its rows, [>= at + R, n]. */
  readonly out: Tensor;
}

/** @internal Activation of {@linkcode Backend.gatedLinear}; also ops of their own. */
export type Gate = "swiglu" | "geglu";

/** The most products that one call of {@linkcode Backend.linears} takes. */
export const MOST_PRODUCTS = 3;

/**
 * One method per op. Shapes are in brackets; tensors are f32 by default. Where an op takes `only`, rows are the slots
 * of a batch, and the op reads and writes only those of the kept sequences; without it, all rows. A tensor of another
 * type or shape is a `TypeError` or `RangeError`. A wrong value inside one, such as an id, is a `RangeError` of the
 * reference and a {@linkcode KernelError} of the native libraries. Code that runs models checks such values first.
 */
export interface Backend extends BatchOps {
  /** Short name, as `--backend` takes it. */
  readonly name: string;
  /** One line for logs: instruction set, threads, libraries. */
  readonly description: string;

  /** Rounding of products with weights; left out: none. */
  readonly products?: Exclude<Products, "exact">;
  /**
   * Host memory, zero, for values that are read again and again and stay on the host, such as weights: in large pages where
   * the system has them. Left out: any memory serves.
   */
  readonly hostMemory?: (bytes: number) => Uint8Array<ArrayBuffer>;

  /** Allocates storage, zero unless `filledLater`: then it may hold anything until the caller has filled it. */
  alloc(dtype: DType, shape: readonly number[], filledLater?: boolean): Tensor;
  /** Takes a host tensor over, in host memory without a copy. @throws As `hostTensor`, if it is not whole. */
  upload(tensor: HostTensor): Tensor;
  /** The values, in this process's memory (without copying where they are there already). */
  read(tensor: Tensor): HostTensor;
  /** A fresh tensor of `rows` rows that begins with the rows of `tensor`, as many as fit; the rest is zero. */
  resizeRows(tensor: Tensor, rows: number): Tensor;
  /**
   * {@linkcode resizeRows} where the tensor given is not to be used afterwards: without a copy, where the backend can. New
   * rows may hold anything until the caller has filled them.
   */
  regrowRows(tensor: Tensor, rows: number): Tensor;
  /** Waits for all enqueued work, to time it. Backends whose calls return only when their work is done have none. */
  synchronize?(): void;
  /** Gives a tensor's memory back at once; not to be used afterwards. Where it is not called, memory is freed late. */
  free(tensor: Tensor): void;

  /**
   * out[i] = table[ids[i]] * scale: `table` [vocabSize, hiddenSize] of any dtype, `ids` [T] i32, `out` [T, hiddenSize];
   * `scale`, default 1, is rounded to float32.
   */
  embedding(table: Tensor, ids: Tensor, out: Tensor, scale?: number): void;
  /** out = x / sqrt(mean(x^2) + eps) * weight, row by row: `x`, `out` [T, n], `weight` [n]; `out` may be `x`. */
  rmsNorm(x: Tensor, weight: Tensor, eps: number, out: Tensor): void;
  /** x += delta, both [T, n], only in the rows of `only`; then `rmsNorm` of all rows. */
  addRmsNorm(x: Tensor, delta: Tensor, weight: Tensor, eps: number, out: Tensor, only?: BatchDecisions): void;
  /**
   * out = x W': `x` [T, k], `weight` [n, k] of any dtype, `out` [T, n]. Activations are only quantised under
   * {@linkcode products}. `sameX`: the tensor `x` of the last product, if it is the same one, has not changed, so that
   * a device may reuse its conversion. It may always be left out.
   */
  linear(x: Tensor, weight: Tensor, out: Tensor, only?: BatchDecisions, sameX?: boolean): void;
  /** Up to {@linkcode MOST_PRODUCTS} of them, of one `x`, which none of them fills. */
  linears(x: Tensor, products: readonly Product[], only?: BatchDecisions, sameX?: boolean): void;
  /** Two products of one `x` [T, k], and gate.out = activation(gate.out, up.out); `up.out` may then hold anything. */
  gatedLinear(x: Tensor, gate: Product, up: Product, activation: Gate): void;
  /**
   * Rotary embedding in place on adjacent pairs (GGUF's row order): (x[t, h, 2i], x[t, h, 2i+1]) is rotated by the angle
   * positions[t] * turns[i, 0] and stretched by the factor turns[i, 1]. `x` [T, heads, headDim], `positions` [T] i32,
   * `turns` [headDim / 2, 2] f64.
   */
  rope(x: Tensor, positions: Tensor, turns: Tensor, only?: BatchDecisions): void;
  /** out = silu(gate) * up, all [T, n]; `out` may be `gate`. */
  swiglu(gate: Tensor, up: Tensor, out: Tensor): void;
  /** out = gelu(gate) * up with gelu(x) = x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2, else like `swiglu`. */
  geglu(gate: Tensor, up: Tensor, out: Tensor): void;
  /** out[i] = x[rows[i]]: `x` [T, n] f32, f16 or bf16, `rows` [R] i32, `out` [R, n] of f32, or of x's dtype. */
  gatherRows(x: Tensor, rows: Tensor, out: Tensor): void;
  /** x[rows[i]] += delta[i], the residual scatter: `x` [T, n], `rows` [R] i32 without repeats, `delta` [R, n]. */
  scatterAddRows(x: Tensor, rows: Tensor, delta: Tensor): void;
  /** x += delta, both [T, n]. */
  add(x: Tensor, delta: Tensor, only?: BatchDecisions): void;
  /**
   * Copies `x` [T, n], or its rows `rows` [R] i32, into the rows of `out` from `at` on, [>= at + R, n]. `out` has x's
   * dtype (f32, f16, bf16), or x is f32 and is rounded to it. The same rows of a `second` matrix, of like shapes and
   * dtypes, are copied too, as for the keys and values of a cache. Where {@linkcode movesRows}, `out` may be `x`, for
   * both: `rows` then ascend, and no row moves to a higher place.
   */
  storeRows(x: Tensor, out: Tensor, at: number, rows?: Tensor, second?: StoredRows): void;
  /** Whether {@linkcode storeRows} moves rows within a tensor. */
  readonly movesRows?: boolean;
  /** Euclidean norm of each row, summed in float64: `x` [T, n]. */
  rowNorms(x: Tensor): Float64Array<ArrayBuffer>;
  /** Grouped-query causal attention of kept queries over compacted keys and the recent window. */
  attention(args: AttentionArgs): void;
  /** Whether {@linkcode attention} fills `shares` and `changes`. */
  readonly givesShares?: boolean;
  /** Loss -log softmax(logits)[target] of each row, in nats: `logits` [T, vocabSize], `targets` [T] i32. */
  nll(logits: Tensor, targets: Tensor): Float64Array<ArrayBuffer>;
  /** Both losses, KL divergence and agreement of two rows of logits, without storing probabilities. */
  compareLogits(base: Tensor, other: Tensor, targets: Tensor): LogitComparison;

  /** The decision recurrence of Token Filtering over a chunk of one layer. */
  readonly kvFilterScan: FilterScan<Tensor>;
  /** The `learned` rule's regression. */
  readonly kvFilterObserve: FilterObserve;
  /** Whether both support the inputs of `learned` with a local substitute; otherwise it runs on the host. */
  readonly knowsLocal?: boolean;
  /**
   * Records the work that `work` enqueues, without running it; `work` must not allocate, read or write. Backends whose
   * calls return only when their work is done have none.
   */
  record?(work: () => void): RecordedWork;
}
