/**
 * The protocol between a model and a method. A method has two sides, queries and keys, and each lists its needs and
 * when it decides. The model provides them, layer by layer, and applies its answers. A model depends on no method by
 * name, and a method on no model.
 */
import type { LayerSpec, LayerState, ScanOutput } from "../../filter/layer.ts";
import type { Spans } from "../../filter/blocks.ts";
import type { HeadParts } from "../../filter/option.ts";
import type { TokenIds } from "../../filter/rule.ts";
import type { FilterBackend, FilterShape } from "../../filter/sequence.ts";
import type { Tensor } from "../../tensor.ts";
import type { Adapts, Alters, Calibration, DroppedParts } from "./calibration.ts";
import type { LayerAsk, ShownRows, Signals } from "./signals.ts";

/**
 * Needs of a side besides rotated keys, values and the residual stream, which it always receives:
 *
 * - `pre-rope keys`: keys before rotary embedding, instead of the rotated ones.
 * - `queries`: queries of all tokens, also of those that are skipped.
 * - `outputs`: outputs of the attention of the kept tokens; `warm-up outputs`: only those of the warm-up.
 * - `future outputs`: outputs of the attention of all tokens if none was skipped, before it decides.
 * - `future attention`: attention that all queries would give to all keys if none was evicted, before it decides.
 * @internal
 */
export type Need =
  | "pre-rope keys"
  | "queries"
  | "outputs"
  | "warm-up outputs"
  | "future outputs"
  | "future attention";

/**
 * When a side decides. `arrival`: as tokens arrive. `block`: at the block starts, when its needs of the blocks before
 * are known. `pass`: likewise, after all layers have computed the blocks before. `warm-up`: as tokens arrive, but only
 * after all layers have computed the warm-up. `prefill`: over a whole sequence, which must come as one prefill.
 * @internal
 */
export type When = "arrival" | "block" | "pass" | "warm-up" | "prefill";

/** A side's input for a layer before its attention: T tokens, one row each. */
export interface LayerView {
  /** 0-based index of the layer. */
  readonly layer: number;
  /** Rows in all tensors below, T. */
  readonly count: number;
  /** Ids of the tokens, where the model knows them. */
  readonly tokens?: TokenIds | undefined;
  /** Keys after rotary embedding, or before it where the side needs those, [T, numKvHeads, headDim] f32. */
  readonly keys: Tensor;
  /** Values, [T, numKvHeads, headDim] f32. */
  readonly values: Tensor;
  /** Residual stream before the attention block, [T, hiddenSize] f32; a dump of keys and values has none. */
  readonly residual?: Tensor;
  /** Attention's input after its RMSNorm, [T, hiddenSize] f32; likewise. */
  readonly normed?: Tensor;
  /** Queries after rotary embedding, [T, numHeads * headDim] f32, where the side needs them. */
  readonly queries?: Tensor;
  /** Where the side needs future outputs: norm(o) / norm(x) of every token, [T], as if all were kept. */
  readonly futureOutputs?: Float64Array<ArrayBuffer>;
  /** Where the side needs future attention: mean of probabilities over heads, [T queries, T keys], no evictions. */
  readonly futureAttention?: Float64Array;
}

/** The decisions of a side about tokens of a layer. */
export interface Answer {
  /**
   * Decisions about the next tokens in order, one entry each. Queries: 1 = compute, 0 = skip. Keys: 1 = key and value
   * stay, 0 = they are evicted when they are decided.
   */
  readonly keep?: Uint8Array<ArrayBuffer>;
  /** Positions whose key and value are evicted now, ascending. */
  readonly drop?: readonly number[];
  /** The same of each KV head that has rows of its own. */
  readonly dropByHead?: readonly (readonly number[])[];
  /** Values that change now, [numKvHeads * headDim] each, by position. */
  readonly values?: ReadonlyMap<number, Float32Array<ArrayBuffer>>;
}

/** @internal Outcomes of the attention of kept tokens, in order, float64. */
export interface Outcomes {
  /** norm(o), o = the attention block's output; with a substitute, the norm of o less the substitute. */
  readonly outputNorms: Float64Array<ArrayBuffer>;
  /** norm(x), x = the residual stream before the block. */
  readonly residualNorms: Float64Array<ArrayBuffer>;
}

/**
 * A side at work on one sequence.
 *
 * @typeParam Seen Input of `observe`.
 */
export interface SideSequence<Seen = Outcomes> {
  /**
   * Shows the next tokens of a layer; those from row `start` on are undecided. Queries: answers for at least one of them,
   * and is asked again for the rest, after `observe`. Keys: answers for all of them, or for none where it has a `judge`.
   */
  decide(view: LayerView, start: number): Answer;
  /** Keys: the evictions at the block start `at`, when the tokens t with t < at - recent are decided. */
  judge?(layer: number, at: number): Answer;
  /** Passes the outcomes or signals of tokens whose attention was computed, as the side needs them. */
  observe?(layer: number, seen: Seen): void;
  /** States of the side's layers, in their order, if {@linkcode Side.specs} exists. */
  readonly states?: readonly LayerState[];
  /** An independent copy, for branching a sequence. */
  fork(): SideSequence<Seen>;
}

/** @internal The properties of a side: its layers, its needs, and when it decides. */
export interface Side<Seen = Outcomes> {
  /** 0-based indices of its layers, ascending. In the others everything stays. */
  readonly layers: readonly number[];
  readonly needs: readonly Need[];
  readonly at: When;
  /**
   * Specifications of `layers`, in their order, if the filter's own recurrence decides them and no trace receives the
   * decisions. A device can then decide by itself.
   */
  readonly specs?: readonly LayerSpec[];
  /** Key side: layers that keep everything because of the option `whole`, ascending; left out where there is none. */
  readonly whole?: readonly number[];
  /** Key side: KV heads of its layers of which some keep everything, or each has rows of its own. */
  readonly heads?: ReadonlyMap<number, HeadParts>;
  /** Starts a sequence; `chunk` is its 0-based index in a text that is scored in chunks. */
  start(chunk?: number): SideSequence<Seen>;
}

/** @internal The side that selects keys and values to evict, independently of the attention that is computed. */
export interface KeySide extends Side<Signals> {
  /**
   * Whether it reads nothing but `change`, of its own layers' keys that are not decided yet, and no trace receives its
   * decisions: a batch can then be judged by what a device notes.
   */
  readonly readsChangesOnly?: true;
  /** Whether it changes values of keys that stay, so that its decisions alone repeat no run. */
  readonly merges?: true;
  /** By layer, of the model's, what it reads of it beyond a view. */
  readonly asks?: ReadonlyMap<number, LayerAsk>;
  start(chunk?: number): KeySequence;
}
/** @internal Such a side at work. */
export interface KeySequence extends SideSequence<Signals> {
  /** Passes rows of tokens of a layer, as the side asks for them. */
  show?(layer: number, rows: ShownRows): void;
  fork(): KeySequence;
}

/** @internal The treatment of skipped tokens. */
export interface Skipped {
  /** Whether their keys and values enter the cache all the same. */
  readonly cached: boolean;
  /** Substitute for their attention outputs; default: none. */
  readonly substitute?: Substitute | undefined;
}

/** @internal Substitute for the attention output of a skipped token. */
export interface Substitute {
  /**
   * `mean`: the mean of the outputs of computed tokens, of earlier blocks without the first four. `last`: the output of
   * the last computed token. `local`: attention over the first `sinks` tokens, the last `recent` ones and itself.
   */
  readonly kind: "mean" | "last" | "local";
  readonly sinks: number;
  readonly block: number;
}

/** @internal How a method finds the KV heads that keep every key and value: by one dense pass over random ids. */
export interface HeadProbe {
  /** Random ids, and how often the model reads them in a row. */
  readonly tokens: number;
  readonly copies: number;
  /** A score per KV head, [layers * numKvHeads]: the higher the sooner it keeps everything; 0 = it never does. */
  score(layers: readonly ProbedLayer[]): number[];
}

/** @internal Inputs of a layer's attention in such a pass over T tokens; the copies come last. */
export interface ProbedLayer {
  readonly numHeads: number;
  readonly numKvHeads: number;
  readonly headDim: number;
  /** Factor on the products of queries and keys. */
  readonly scale: number;
  /** Queries after rotary embedding, [T, numHeads * headDim]. */
  readonly queries: Float32Array;
  /** Keys after rotary embedding, [T, numKvHeads * headDim]. */
  readonly keys: Float32Array;
  /** The mean query at position `count` - 1, and the mean key at positions 0 to `count` - 1: means before rotary embedding. */
  meansAt(count: number): { readonly query: Float64Array; readonly keys: readonly Float64Array[] };
}

/** @internal Decisions of a run over a whole sequence. */
export interface Decided {
  readonly length: number;
  /** Per filtered layer one entry per token: 1 = its attention was computed. */
  readonly keep: ReadonlyMap<number, Uint8Array>;
  /** Per layer of the key side: 0 = its key and value were evicted; where KV heads have rows of their own, how many keep them. */
  readonly kvKeep: ReadonlyMap<number, Uint8Array>;
}

/** @internal A run by one method over the whole sequence, and the method of the run that counts. */
export interface Rehearsal {
  readonly of: Pruner;
  then(decided: Decided): Pruner;
}

/**
 * Preparation of the model before the method runs. `alter`: it is altered by a calibration text. `adapt`: it is altered
 * for each sequence by its warm-up. `drop`: some of its parts are left out. `rehearse`: another method runs first.
 * @internal
 */
export type Preparation =
  | { readonly kind: "alter" } & Alters
  | { readonly kind: "adapt" } & Adapts
  | { readonly kind: "drop" } & DroppedParts
  | { readonly kind: "rehearse" } & Rehearsal;

/** A method with its options, bound to a model's shape: the side of queries, and its other properties. */
export interface Pruner extends Side {
  /** The method's name; of every rule "token-filtering". */
  readonly name: string;
  /** Its warm-up, whose tokens it keeps; its blocks; and for how many tokens evicted keys and values stay visible. */
  readonly spans: Spans;
  /** The treatment of skipped tokens. */
  readonly skipped: Skipped;
  /**
   * The key side, which evicts keys and values by a rule of its own. Skipped tokens are then cached like all others.
   */
  readonly keySide?: KeySide;
  /** Preparation of the model. */
  readonly prepare?: Preparation;
}

export const CONTEXT: Record<keyof PrunerContext, true> = {
  backend: true,
  calibration: true,
  trace: true,
  keyTrace: true,
  rankTrace: true,
  retrieval: true,
};

export function preparationOf<Kind extends Preparation["kind"]>(
  pruner: Pick<Pruner, "prepare"> | undefined,
  kind: Kind,
): Extract<Preparation, { readonly kind: Kind }> | undefined {
  const { prepare } = pruner ?? {};
  return prepare?.kind === kind ? prepare as Extract<Preparation, { readonly kind: Kind }> : undefined;
}

/** Whether either side of a method needs the whole sequence as one prefill. */
export function takesWhole(pruner: Partial<Pick<Pruner, "at" | "keySide">> | undefined): boolean {
  return pruner?.at === "prefill" || pruner?.keySide?.at === "prefill";
}

/** 0-based indices of the layers that a pruner touches on either side, or reads for its decisions, ascending. */
export function filteredLayers({ layers, keySide }: Pick<Pruner, "layers" | "keySide">): number[] {
  const ofKeys = [...keySide?.layers ?? [], ...keySide?.asks?.keys() ?? []];
  return [...new Set([...layers, ...ofKeys])].sort((a, b) => a - b);
}

/** @throws {RangeError} If the substitute is local attention, and a layer that it is for has a window of its own. */
export function checkWindows(
  { layers, skipped: { substitute } }: Pick<Pruner, "layers" | "skipped">,
  shape: Pick<FilterShape, "layers">,
): void {
  if (substitute?.kind !== "local") return;
  const layer = layers.find((layer) => shape.layers?.[layer]?.window !== undefined);
  if (layer === undefined) return;
  throw new RangeError(
    `Cannot use local attention in layer ${layer} as a substitute: expected a layer without a window of its own ` +
      "(take another substitute, or none)",
  );
}

/** A pruner from its required members. The defaults are those of a method without needs that skips for good. */
export function definePruner(own: Pick<Pruner, "name" | "layers" | "start"> & Partial<Pruner>): Pruner {
  return {
    needs: [],
    at: "arrival",
    spans: { warmup: 0, block: 32, recent: 0 },
    skipped: { cached: false },
    ...own,
  };
}

/**
 * The null method: skips nothing, so that a model runs as it is.
 *
 * @example
 * ```ts
 * import { createDense } from "@tokenfilter/tokenfilter/methods";
 * console.assert(createDense().layers.length === 0);
 * ```
 */
export function createDense(): Pruner {
  const sequence = {
    decide: ({ layer }: { readonly layer: number }): never => {
      throw new RangeError(`Cannot filter layer ${layer}: the dense method filters none`);
    },
    fork: () => sequence,
  };
  return definePruner({ name: "dense", layers: [], start: () => sequence });
}

/**
 * @internal
 * Called with every decision as it is made: one row per token, in order, the numbers behind it in the columns. A method
 * leaves NaN in the columns that it has no number for.
 */
export type DecisionTrace = (rows: ScanOutput, layer: number, chunk: number) => void;

/**
 * @internal
 * Called with the scores of a method that ranks the cached tokens again, at each block start `at` at which some are evicted:
 * by position, the lowest evicted first; Infinity = not to be evicted yet. `unit` is the KV head's place among those that evict,
 * where each has rows of its own.
 */
export type RankTrace = (
  ranks: {
    readonly at: number;
    readonly positions: readonly number[];
    readonly scores: Float64Array;
    readonly unit: number;
  },
  layer: number,
  chunk: number,
) => void;

/** Inputs of a method besides the model's shape and its own options. */
export interface PrunerContext {
  /** Computes the filter's recurrence, and reads the model's tensors; the plain TypeScript reference by default. */
  readonly backend?: FilterBackend;
  /** Calibration text for a method that alters the model; default: the process's own. */
  readonly calibration?: Calibration;
  /**
   * Retrieval scores of the model, as the shape has them for that value of `whole`, or by a method's own probe of KV heads:
   * asked for where the shape has none.
   */
  readonly retrieval?: (whole: "auto" | "heads" | HeadProbe) => readonly number[];
  /** Called with the decisions of all sequences, forks included. */
  readonly trace?: DecisionTrace;
  /** The same of the key side's decisions, where it has a rule of its own. */
  readonly keyTrace?: DecisionTrace;
  /** The scores of a key side that ranks its tokens again and again. */
  readonly rankTrace?: RankTrace;
}
