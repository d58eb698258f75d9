/** Members of a model that evaluation needs. `Model` has them; so does a small fake in a test. */
import type { Backend } from "../backend.ts";
import type { BatchDecoder, BatchOptions } from "../model/run/batch/batch_decoder.ts";
import type { ModelConfig } from "../model/config/config.ts";
import type { ModelSequence, SequenceOptions } from "../model/run/sequence.ts";
import type { Pruner } from "../methods/protocol/pruner.ts";
import type { Tensor } from "../tensor.ts";

export type EvaluatedSequence =
  & Pick<ModelSequence, "feed" | "feedResidual" | "keep" | "usage">
  & Partial<Pick<ModelSequence, "kvKeep" | "kvEnds" | "free">>;

/** A batch of sequences at work on a device. */
export type EvaluatedBatch = Pick<
  BatchDecoder,
  "begin" | "step" | "keep" | "kvKeep" | "judged" | "usageOf" | typeof Symbol.dispose
>;

/** @internal A language model, reduced to the members that evaluation needs. */
export interface EvaluatedModel {
  readonly config:
    & Pick<ModelConfig, "numLayers" | "layers">
    & Partial<Pick<ModelConfig, "vocabSize" | "hiddenSize">>;
  readonly backend: Backend;
  /** Starts a sequence; without a pruner it runs dense. `chunk` is its index in a text scored in chunks. */
  start(pruner?: Pruner, options?: Pick<SequenceOptions, "chunk">): EvaluatedSequence;
  /** Starts a batch that is decoded on a device, where the backend can; else tokens are fed one by one. */
  startBatch?(pruner: Pruner | undefined, options: BatchOptions): EvaluatedBatch;
  /** Dense residual stream entering a layer, [T, hiddenSize] f32, for one whole sequence. */
  residualAt(ids: Int32Array<ArrayBuffer>, layer: number): Tensor;
  /** Logits [R, vocabSize] of hidden states [R, hiddenSize]; in `out`, where that is given and the model can. */
  logits(hidden: Tensor, out?: Tensor): Tensor;
}

export interface BranchingSequence extends EvaluatedSequence {
  fork(): BranchingSequence;
}

export interface BranchingFeed {
  readonly sequence: BranchingSequence;
  readonly ids: Int32Array<ArrayBuffer>;
}

/** A model whose sequences can branch; `Model` fits it. */
export interface BranchingModel extends EvaluatedModel {
  start(pruner?: Pruner, options?: { readonly chunk?: number }): BranchingSequence;
  /** Feeds several sequences at once, [sum of T, hiddenSize]; where it is left out they are fed one by one. */
  feedTogether?(feeds: readonly BranchingFeed[]): Tensor;
}
