/** A model's weights, named by their function. */
import type { DroppedParts } from "../methods/protocol/calibration.ts";
import { countOf, type Tensor } from "../tensor.ts";

/** Weights of one block. Norms are f32, matrices of any type; matrices are [outputs, inputs]. */
export interface LayerWeights<T extends Tensor = Tensor> {
  /** RMSNorm before the attention, [hiddenSize] f32. */
  readonly attnNorm: T;
  /** Query projection, [numHeads * headDim, hiddenSize], rows in GGUF's order: rotary pairs side by side. */
  readonly q: T;
  /** Key projection, [numKvHeads * headDim, hiddenSize], rows like `q`. */
  readonly k: T;
  /** Value projection, [numKvHeads * headDim, hiddenSize]. */
  readonly v: T;
  /** Output projection of the attention, [hiddenSize, numHeads * headDim]. */
  readonly o: T;
  /** RMSNorm before the MLP, [hiddenSize] f32. */
  readonly ffnNorm: T;
  /** Gate projection, [intermediateSize, hiddenSize]. */
  readonly gate: T;
  /** Up projection, [intermediateSize, hiddenSize]. */
  readonly up: T;
  /** Down projection, [hiddenSize, intermediateSize]. */
  readonly down: T;
  readonly [own: string]: T;
}

/** @internal Weights of a model, in the file's bytes (`HostTensor`) or wherever a backend keeps them. */
export interface ModelWeights<T extends Tensor = Tensor> {
  /** Token embedding, [vocabSize, hiddenSize]. */
  readonly embedding: T;
  readonly layers: readonly LayerWeights<T>[];
  /** RMSNorm after the last block, [hiddenSize] f32. */
  readonly outputNorm: T;
  /** Output projection, [vocabSize, hiddenSize]; the very tensor `embedding` where the two are tied. */
  readonly output: T;
}

/** Values of all weights, a tied embedding once. */
export function countParameters({ layers, ...others }: ModelWeights): number {
  const all = new Set([...Object.values(others), ...layers.flatMap((layer) => Object.values(layer))]);
  return Array.from(all, ({ shape }) => countOf(shape)).reduce((a, b) => a + b, 0);
}

/** Names of the tensors of a block's MLP; the others are its attention's. */
const OF_MLP = /^(ffn|gate|up|down|mlp)/;

function countPart(layer: LayerWeights, part: "attention" | "mlp"): number {
  return Object.entries(layer).filter(([name]) => OF_MLP.test(name) === (part === "mlp"))
    .reduce((sum, [, { shape }]) => sum + countOf(shape), 0);
}

/** Values of the weights of parts that are left out for good. */
export function countDropped(
  { layers }: Pick<ModelWeights, "layers">,
  { attention = [], mlp = [], from = 0 }: Partial<DroppedParts> = {},
): number {
  if (from > 0) return 0;
  const of = (part: "attention" | "mlp", gone: readonly number[]) =>
    gone.reduce((sum, layer) => sum + countPart(layers[layer]!, part), 0);
  return of("attention", attention) + of("mlp", mlp);
}
