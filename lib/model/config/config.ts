/** A model's sizes, by this project's names. */
import type { CostShape } from "../../cost.ts";
import type { Rope } from "./rope.ts";

/** @internal Settings of one layer that differ from the model's. */
export interface LayerConfig {
  /** Its rotary embedding; null where it has none. Default: the model's. */
  readonly rope?: Rope | null;
  /** Its attention reaches back over this number of positions, a token's own included. Default: over all. */
  readonly window?: number;
  /** Query heads, KV heads and channels of its MLP, where a method has left some out. Default: the model's. */
  readonly numHeads?: number;
  readonly numKvHeads?: number;
  readonly intermediateSize?: number;
}

/** Sizes and constants of a model. `numKvHeads` divides `numHeads`, and `headDim` is even. */
export interface ModelConfig extends CostShape {
  /** Name of its architecture, as `ARCHITECTURES` has it. */
  readonly architecture: string;
  /** Rotary embedding of the layers that have none of their own. */
  readonly rope: Rope;
  /** Added to the mean square in RMSNorm. */
  readonly rmsNormEps: number;
  /** Positions that the model was trained on, or that its rotary embedding was stretched for. */
  readonly contextLength: number;
  /** Whether the output projection is the embedding. */
  readonly tieWordEmbeddings: boolean;
  /** Settings that differ between layers, one entry per layer. Default: none. */
  readonly layers?: readonly LayerConfig[];
  /** Projections with a bias, such as "q" or "down". Default: none. */
  readonly biases?: readonly string[];
  /** Factor on the products of queries and keys. Default: 1 / sqrt(headDim). */
  readonly attentionScale?: number;
  /** Positions from this one on are refused, where the rotary embedding is not right for them. Default: none. */
  readonly maxPositions?: number;
}

/** Checks that a sequence may grow to a number of tokens. @throws {RangeError} If its last position is one too far. */
export function expectPositions({ maxPositions = Infinity }: ModelConfig, tokens: number): void {
  if (tokens > maxPositions) {
    throw new RangeError(
      `Cannot feed a sequence of ${tokens} tokens: the model's rotary embedding was made for ${maxPositions}; ` +
        "load it with a longer contextLength",
    );
  }
}

export function layerConfig({ layers }: Pick<ModelConfig, "layers">, layer: number): LayerConfig {
  return layers?.[layer] ?? {};
}
