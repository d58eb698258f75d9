/**
 * What a model asks of a method: per sequence and layer, which tokens' attention to compute.
 * A model knows no method by name; a method knows no model.
 */
import type { LayerSpec, LayerState, ScanOutput } from "../filter/layer.ts";
import type { KeyState } from "../filter/options.ts";
import type { FilterBackend, FilterShape } from "../filter/sequence.ts";
import type { Tensor } from "../tensor.ts";
import type { Adapts, Alters, Calibration } from "./model_pruning/calibration.ts";

/** @internal What a method may look at before a layer's attention: T tokens, one row each. */
export interface LayerInput {
  /** 0-based index of the layer. */
  readonly layer: number;
  /** Rows in all tensors below, T. */
  readonly count: number;
  /** Keys after rotary embedding, or before it where the method asked so, [T, numKvHeads, headDim] f32. */
  readonly keys: Tensor;
  /** Values, [T, numKvHeads, headDim] f32. */
  readonly values: Tensor;
  /** Residual stream before the attention block, [T, hiddenSize] f32. */
  readonly residual: Tensor;
  /** Attention's input after its RMSNorm, [T, hiddenSize] f32. */
  readonly normed: Tensor;
  /** Queries after rotary embedding, [T, numHeads * headDim] f32, where the method asked for them. */
  readonly queries?: Tensor;
  /**
   * Where the method asked for them: norm(o) / norm(x) of every token, [T], as if all tokens of the chunk were
   * kept. This looks ahead.
   */
  readonly trueRedundancy?: Float64Array<ArrayBuffer>;
}

/** @internal What a method says of the tokens [start, start + taken). */
export interface PrunerDecision {
  /** Tokens decided, at least 1; the model asks again for the rest, after `observe`. */
  readonly taken: number;
  /** 1 = compute, 0 = skip; `taken` entries. */
  readonly keep: Uint8Array<ArrayBuffer>;
}

/** A method at work on one sequence. */
export interface PrunerSequence {
  /** Decides the next tokens of a filtered layer: rows [start, input.count) of the input are still open. */
  decide(input: LayerInput, start: number): PrunerDecision;
  /**
   * Where the method asked for them: outcomes of the kept tokens of the last decision, in order:
   * norm(attention block's output) and norm(residual input), float64. With a substitute the first is the norm of what the
   * output differs from it by.
   */
  observe?(
    layer: number,
    outputNorms: Float64Array<ArrayBuffer>,
    residualNorms: Float64Array<ArrayBuffer>,
  ): void;
  /** States of the filtered layers, in their order, where {@linkcode Pruner.specs} says what decides them. */
  readonly states?: readonly LayerState[];
  /** An independent copy, for branching a sequence. */
  fork(): PrunerSequence;
}

/** What the key side may look at: some tokens of a layer, one row each. */
export interface KeyInput {
  /** 0-based index of the layer. */
  readonly layer: number;
  /** Rows. */
  readonly count: number;
  /** As they come: keys as {@linkcode LayerInput} has them. */
  readonly keys?: Tensor;
  /** As they come: values. */
  readonly values?: Tensor;
  /** As they come, where the side asked for them: queries, as {@linkcode LayerInput} has them. */
  readonly queries?: Tensor;
  /** When they are judged, where the rule asked for it: the attention that each has received, [count]. */
  readonly attention?: Float64Array;
  /** The same from afar, as {@linkcode RuleToken.distant} says. */
  readonly distant?: Float64Array;
  /** Where the rule asked for it, as {@linkcode RuleToken.change} says. */
  readonly change?: Float64Array;
}

/** The key side at work on one sequence. */
export interface KeySequence {
  /** Where attention is asked for: takes in the next tokens of a layer as they come, if it looks at keys or values too. */
  take?(input: KeyInput): void;
  /**
   * Decides the next tokens of a layer, all of them, in order: as they come, or where attention is asked for when they are
   * judged. 1 = key and value stay, 0 = they go when they are judged, [count].
   */
  decide(input: KeyInput): Uint8Array<ArrayBuffer>;
  /** Where the side evicts: positions of a layer's tokens that go before token `at`, a block start, ascending. */
  evict?(layer: number, at: number): number[];
  /** Where the side merges: values that the last `evict` of a layer has changed, [numKvHeads * headDim] each, by position. */
  merged?(layer: number): ReadonlyMap<number, Float32Array<ArrayBuffer>>;
  /**
   * Where the side evicts and asked for attention: mean over heads of the probabilities that the next queries gave to the
   * first so many keys that are left, [queries, keys], which last until it returns. A side that foresees is given those of
   * all queries to all keys, once, for good.
   */
  observe?(layer: number, probabilities: Float64Array, queries: number): void;
  /** States of the side's layers, in their order, where {@linkcode KeySide.specs} says what decides them. */
  readonly states?: readonly LayerState[];
  /** An independent copy. */
  fork(): KeySequence;
}

/**
 * @internal Whose key and value go, decided apart from whose attention is computed. A token is judged at the first block start b
 * (`judgedAt`) with t < b - recent: from b on no query sees what was dropped.
 */
export interface KeySide {
  /** 0-based indices of its layers, ascending. In the others every key and value stays. */
  readonly layers: readonly number[];
  /** Tokens at the start of a sequence that stay; the second block begins behind them. */
  readonly warmup: number;
  /** Tokens per block after that. */
  readonly block: number;
  /** For how many tokens a key and value stay visible at least. */
  readonly recent: number;
  /** Whether it judges by the attention that tokens have received. */
  readonly wantsAttention: boolean;
  /** Keys it wants to see; default: those that the query side wants. */
  readonly keyState?: KeyState;
  /** Whether it reads the queries of all tokens. Default false. */
  readonly wantsQueries?: boolean;
  /** Whether it wants to know, beside that, what would change without each token. */
  readonly wantsChange?: boolean;
  /** Whether it looks ahead: then a whole sequence must come as one prefill. */
  readonly looksAhead: boolean;
  /** Whether values of tokens that stay change where others go. Default false. */
  readonly merges?: boolean;
  /** Whether, looking ahead, it is shown the attention of all queries to all keys as if none went. Default false. */
  readonly foresees?: boolean;
  /** Whether tokens that stayed may still go at a later block start. Default false. */
  readonly evicts?: boolean;
  /** What decides each of `layers`, as {@linkcode Pruner.specs} does: a device can then judge by itself. */
  readonly specs?: readonly LayerSpec[];
  /** Starts a sequence; `chunk` is its 0-based index in a text that is scored in chunks. */
  start(chunk?: number): KeySequence;
}

/** @internal What stands for the attention output of a skipped token. */
export interface Substitute {
  /**
   * The mean of the outputs of tokens whose attention was computed, of earlier blocks and without the first four; the output
   * of the last such token; or attention over the first `sinks` tokens, the last {@linkcode Pruner.recent} ones and itself.
   */
  readonly kind: "mean" | "last" | "local";
  /** First tokens that local attention sees. */
  readonly sinks: number;
  /** Tokens per block after the warm-up. */
  readonly block: number;
}

/** @internal Parts of a model that are left out. */
export interface DroppedParts {
  /** 0-based indices of layers without attention: they hold no keys and values either. */
  readonly attention: readonly number[];
  /** 0-based indices of layers without their MLP. */
  readonly mlp: readonly number[];
  /** The first token for which they are left out; those before it run dense. Default 0. */
  readonly from?: number;
}

/** What a run over a whole sequence has decided. */
export interface Decided {
  /** Tokens. */
  readonly length: number;
  /** Per filtered layer one entry a token: 1 = its attention was computed. */
  readonly keep: ReadonlyMap<number, Uint8Array>;
  /** Per layer of the key side: 0 = its key and value have gone. */
  readonly kvKeep: ReadonlyMap<number, Uint8Array>;
}

/** @internal A run over the whole sequence before the one that counts. */
export interface Rehearsal {
  /** The method of the first run. */
  readonly of: Pruner;
  /** The method of the second. */
  then(decided: Decided): Pruner;
}

/** A method with its options, bound to a model's shape. */
export interface Pruner {
  /** The method's name; of every rule "token-filtering". */
  readonly name: string;
  /** 0-based indices of the layers it filters, ascending. The other layers run dense. */
  readonly layers: readonly number[];
  /** Tokens at the start of a sequence that it keeps; they do not count for an achieved ratio. */
  readonly warmup: number;
  /** Keys it wants to see. */
  readonly keyState: KeyState;
  /** Whether it reads {@linkcode LayerInput.queries}. */
  readonly wantsQueries: boolean;
  /** Whether it needs `observe`, of all tokens or of the warm-up's alone. */
  readonly wantsOutputs: boolean | "warmup";
  /** Whether the warm-up must have gone through all layers before another token goes through any. */
  readonly warmsUpFirst?: boolean;
  /** What stands for the outputs of skipped tokens; nothing where it is left out. */
  readonly substitute?: Substitute;
  /** What it looks ahead at, if anything: then a whole sequence must come as one prefill. */
  readonly looksAhead: "nothing" | "scores" | "outputs";
  /** Whether skipped tokens enter the KV cache all the same. */
  readonly cacheSkipped: boolean;
  /** For how many tokens a skipped token's key and value stay visible. */
  readonly recent: number;
  /** Parts that are left out, as if they were not there: none of the method's `layers`. */
  readonly drops?: DroppedParts;
  /** What becomes of the model before any token; then there is nothing else that the method does. */
  readonly alters?: Alters;
  /** The same for the tokens behind the warm-up alone, by what the sequence has shown there. */
  readonly adapts?: Adapts;
  /** A run of another method over the whole sequence first, whose decisions make this one's. */
  readonly rehearses?: Rehearsal;
  /** What drops keys and values by a rule of its own. Skipped tokens then enter the cache like all others. */
  readonly keySide?: KeySide;
  /**
   * What decides each of `layers`, in their order, where the method is the filter's own recurrence and no trace is told its
   * decisions: a device can then take those of a decode by itself.
   */
  readonly specs?: readonly LayerSpec[];
  /** Starts a sequence; `chunk` is its 0-based index in a text that is scored in chunks. */
  start(chunk?: number): PrunerSequence;
}

/** 0-based indices of the layers that a pruner touches on either side, ascending. */
export function filteredLayers({ layers, keySide }: Pick<Pruner, "layers" | "keySide">): number[] {
  return [...new Set([...layers, ...keySide?.layers ?? []])].sort((a, b) => a - b);
}

/**
 * Checks the substitute against the layers that it is for.
 *
 * @throws {RangeError} If it is local attention, and one of them has a window of its own.
 */
export function checkWindows(
  { layers, substitute }: Pick<Pruner, "layers" | "substitute">,
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

/** What a pruner looks at in a layer before its attention. */
export interface LayerView extends Pick<Pruner, "keyState" | "wantsQueries" | "looksAhead"> {
  /** Whether attention is computed of all tokens, whatever it decides: then their queries can be made at once. */
  readonly computesAll: boolean;
}

/**
 * A pruner's view of a layer: keys before rotary embedding where either side wants them so; undefined where it touches
 * neither side of the layer.
 */
export function viewOf(pruner: Pruner | undefined, layer: number): LayerView | undefined {
  const own = pruner?.layers.includes(layer) ? pruner : undefined;
  const side = pruner?.keySide?.layers.includes(layer) ? pruner.keySide : undefined;
  if (own === undefined && side === undefined) return undefined;
  const states = [own?.keyState, side && keyStateOf(pruner!)];
  const keyState = states.includes("pre-rope") ? "pre-rope" : "post-rope";
  return {
    keyState,
    wantsQueries: (own ?? side!).wantsQueries ?? false,
    looksAhead: own?.looksAhead ?? "nothing",
    computesAll: own === undefined || own.substitute?.kind === "local",
  };
}

/** Keys that a pruner's key side wants. */
export function keyStateOf({ keyState, keySide }: Pick<Pruner, "keyState" | "keySide">): KeyState {
  return keySide?.keyState ?? keyState;
}

/** A pruner from what it must say; what is left out is as where a method asks for nothing and skips for good. */
export function definePruner(own: Pick<Pruner, "name" | "layers" | "start"> & Partial<Pruner>): Pruner {
  return {
    warmup: 0,
    keyState: "post-rope",
    wantsQueries: false,
    wantsOutputs: false,
    looksAhead: "nothing",
    cacheSkipped: false,
    recent: 0,
    ...own,
  };
}

/**
 * @internal Called with every decision as it is made: one row a token, in order, the numbers behind it in the columns. A method
 * leaves NaN in the columns that it has no number for.
 */
export type DecisionTrace = (rows: ScanOutput, layer: number, chunk: number) => void;

/** What a method is given besides the model's shape and its own options. */
export interface PrunerContext {
  /** Computes the filter's recurrence, and reads the model's tensors; the plain TypeScript reference by default. */
  readonly backend?: FilterBackend;
  /** What a method that alters the model is fitted on; default: the process's own. */
  readonly calibration?: Calibration;
  /** Called with the decisions of all sequences, forks included. */
  readonly trace?: DecisionTrace;
  /** The same of the key side's decisions, where it has a rule of its own. */
  readonly keyTrace?: DecisionTrace;
}
