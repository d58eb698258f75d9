/** A model's weights, by what they do, with every shape checked. */
import type { Backend } from "../backend.ts";
import { ModelFormatError } from "../errors.ts";
import type { HostTensor, Tensor } from "../tensor.ts";
import type { TensorSpec } from "./architectures/architecture.ts";
import { architectureOf } from "./architectures/mod.ts";
import type { ModelConfig } from "./config.ts";
import type { GgufFile } from "./formats/gguf.ts";

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
  /** What an architecture has beside these. */
  readonly [own: string]: T;
}

/** Weights of a model, in the file's bytes (`HostTensor`) or wherever a backend keeps them. */
export interface ModelWeights<T extends Tensor = Tensor> {
  /** Token embedding, [vocabSize, hiddenSize]. */
  readonly embedding: T;
  /** The blocks, first to last. */
  readonly layers: readonly LayerWeights<T>[];
  /** RMSNorm after the last block, [hiddenSize] f32. */
  readonly outputNorm: T;
  /** Output projection, [vocabSize, hiddenSize]; the very tensor `embedding` where the two are tied. */
  readonly output: T;
}

/** Trailing parts of tensor names that change the computation, and what they are. */
const UNSUPPORTED_TENSORS: readonly [suffix: string, what: string][] = [
  ["rope_freqs.weight", "rotary factors"],
  ["rope_factors_long.weight", "rotary factors"],
  ["rope_factors_short.weight", "rotary factors"],
  [".bias", "a bias"],
  ["_exps.weight", "experts"],
  ["ffn_gate_inp.weight", "an expert router"],
];

/** Makes a model's weights, each tensor of its architecture by `make`: the embedding, the blocks' in order, the output's. */
export function createWeights<T extends Tensor>(
  config: ModelConfig,
  make: (tensor: TensorSpec) => T,
): ModelWeights<T> {
  const architecture = architectureOf(config), layerTensors = architecture.layerTensors(config);
  const { embedding, outputNorm, output } = architecture.modelTensors(config);
  const table = make(embedding);
  return {
    embedding: table,
    layers: Array.from(
      { length: config.numLayers },
      (_, layer) => mapTensors(layerTensors, (spec) => make({ ...spec, gguf: `blk.${layer}.${spec.gguf}` })),
    ),
    outputNorm: make(outputNorm),
    output: config.tieWordEmbeddings ? table : make(output),
  };
}

/** Each of a block's tensors by `make`. */
function mapTensors<A, T extends Tensor>(
  tensors: { readonly [name in keyof LayerWeights]: A },
  make: (tensor: A) => T,
): LayerWeights<T> {
  const entries = Object.entries<A>(tensors).map(([name, tensor]) => [name, make(tensor)]);
  return Object.fromEntries(entries) as LayerWeights<T>;
}

/**
 * Takes a model's weights out of a GGUF file, as views of its bytes.
 *
 * @throws {ModelFormatError} If a tensor is missing, has another shape than the config says, or has no place in its
 * architecture (biases, experts, rotary factors, ...); the message names the tensor.
 *
 * @example
 * ```ts
 * import { parseGguf, readModelConfig, resolveModel } from "@tokenfilter/tokenfilter/model";
 * const { bytes, path } = await resolveModel("tiny");
 * const gguf = parseGguf(bytes, path), config = readModelConfig(gguf);
 * const { k } = loadWeights(gguf, config).layers[0]!;
 * console.assert(k.shape[0] === config.numKvHeads * config.headDim && k.shape[1] === config.hiddenSize);
 * ```
 */
export function loadWeights(gguf: GgufFile, config: ModelConfig): ModelWeights<HostTensor> {
  const taken = new Set<string>();
  const weights = createWeights(config, ({ gguf: name, shape, dtype }) => {
    const tensor = gguf.tensors.get(name);
    if (tensor === undefined) {
      throw new ModelFormatError(gguf.file, `found no tensor "${name}", expected one of shape [${shape}]`);
    }
    if (tensor.shape.length !== shape.length || tensor.shape.some((size, i) => size !== shape[i])) {
      throw new ModelFormatError(
        gguf.file,
        `found tensor "${name}" with shape [${tensor.shape}], expected [${shape}]`,
      );
    }
    if (dtype !== undefined && tensor.dtype !== dtype) {
      throw new ModelFormatError(gguf.file, `found tensor "${name}" in ${tensor.dtype}, expected ${dtype}`);
    }
    taken.add(name);
    return tensor;
  });
  for (const name of gguf.tensors.keys()) {
    if (!taken.has(name)) throw unknownTensorError(gguf, config, name);
  }
  return weights;
}

function unknownTensorError(gguf: GgufFile, config: ModelConfig, name: string): ModelFormatError {
  const what = UNSUPPORTED_TENSORS.find(([suffix]) => name.endsWith(suffix))?.[1];
  const layer = /^blk\.(\d+)\./.exec(name)?.[1];
  const found = what === undefined ? `tensor "${name}"` : `tensor "${name}" (${what})`;
  const why = layer !== undefined && Number(layer) >= config.numLayers
    ? `expected ${config.numLayers} blocks, as ${config.architecture}.block_count says`
    : "expected only tensors that this project knows, as its results could be wrong";
  return new ModelFormatError(gguf.file, `found ${found}, ${why}`);
}

/** The same weights on a backend (no copy where it computes in this process's memory). */
export function uploadWeights(weights: ModelWeights<HostTensor>, backend: Backend): ModelWeights {
  const upload = (tensor: HostTensor) => backend.upload(tensor);
  const embedding = upload(weights.embedding);
  return {
    embedding,
    layers: weights.layers.map((layer) => mapTensors(layer, upload)),
    outputNorm: upload(weights.outputNorm),
    output: weights.output === weights.embedding ? embedding : upload(weights.output),
  };
}
