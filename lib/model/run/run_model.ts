/** What runs need of a model: `Model` is one, and so is a model that a method has altered. */
import type { CacheDType } from "../../dtype.ts";
import type { Pruner } from "../../methods/pruner.ts";
import type { Tensor } from "../../tensor.ts";
import type { ModelConfig } from "../config.ts";
import type { ModelWeights } from "../weights.ts";
import type { ModelParts, See } from "./forward_pass.ts";

/** @internal A sequence, for runs of a model on a calibration text. */
export interface RunSequence {
  feed(ids: Int32Array<ArrayBuffer>): Tensor;
  feedResidual(residual: Tensor, layer: number): Tensor;
  throughLayer(x: Tensor, layer: number): Tensor;
  free(): void;
}

/** @internal A model that can be run. */
export interface RunModel extends ModelParts {
  /** Element type of KV caches, where a sequence does not say otherwise. */
  readonly cacheDType: CacheDType;
  /** The model that it stands for: itself, unless a method has altered it. */
  readonly unaltered: RunModel;
  /** Values of all its weights, a tied embedding once. */
  readonly parameters: number;
  embed(ids: Int32Array<ArrayBuffer>): Tensor;
  logits(hidden: Tensor): Tensor;
  start(pruner?: Pruner, options?: { readonly see?: See }): RunSequence;
  /** The model that stands for this one once a method has altered it. */
  alike(config: ModelConfig, weights: ModelWeights): RunModel;
}
