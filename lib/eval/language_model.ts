/** What evaluation asks of a model. `Llama` fits it; so does a small fake in a test. */
import type { Backend } from "../backend.ts";
import type { Pruner } from "../pruning/pruner.ts";
import type { Tensor } from "../tensor.ts";

/** Work and memory of one sequence so far, beside the dense model on the same tokens. */
export interface EvaluatedUsage {
  /** Bytes of keys and values that the cache holds. */
  readonly kvBytesHeld: number;
  /** Bytes that a dense cache would hold on top. */
  readonly kvBytesAvoided: number;
  /** Bytes that the cache has allocated. */
  readonly kvBytesAllocated: number;
  /** FLOPs of attention of a dense run. */
  readonly attentionFlopsDense: number;
  /** Those of them not spent. */
  readonly attentionFlopsAvoided: number;
  /** All FLOPs of a dense run. */
  readonly totalFlopsDense: number;
  /** Those of them not spent. */
  readonly totalFlopsAvoided: number;
}

/** One sequence at work in a model. */
export interface EvaluatedSequence {
  /** Feeds the next T tokens; returns the hidden states after the final norm, [T, hiddenSize] f32, a fresh tensor. */
  feed(ids: Int32Array<ArrayBuffer>): Tensor;
  /** Like `feed`, for a whole sequence whose residual stream entering `layer` is known, [T, hiddenSize] f32. */
  feedResidual(residual: Tensor, layer: number): Tensor;
  /** Per filtered layer: 1 = kept, 0 = skipped, one entry a token so far. */
  readonly keep: ReadonlyMap<number, Uint8Array>;
  /** Work and memory so far. */
  usage(): EvaluatedUsage;
}

/** A language model as evaluation sees it. */
export interface EvaluatedModel {
  /** Its sizes. */
  readonly config: { readonly numLayers: number };
  /** Where it runs. */
  readonly backend: Backend;
  /** Starts a sequence; without a pruner it runs dense. `chunk` is its index in a text scored in chunks. */
  start(pruner?: Pruner, options?: { readonly chunk?: number }): EvaluatedSequence;
  /** Dense residual stream entering a layer, [T, hiddenSize] f32, for one whole sequence. */
  residualAt(ids: Int32Array<ArrayBuffer>, layer: number): Tensor;
  /** Logits [R, vocabSize] of hidden states [R, hiddenSize]. */
  logits(hidden: Tensor): Tensor;
}
