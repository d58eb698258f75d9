/** Takes a model's weights out of a file, with every shape checked. */
import { byteSize, type DType, DTYPES, type WeightDType } from "../dtype.ts";
import { ModelFormatError } from "../errors.ts";
import { countOf, type HostTensor, rowsOf, type Tensor } from "../tensor.ts";
import type { TensorSpec } from "./architectures/architecture.ts";
import { architectureOf } from "./architectures/mod.ts";
import { ROPE_TENSORS } from "./architectures/rope_config.ts";
import type { ModelConfig } from "./config/config.ts";
import type { ModelSource } from "./config/config_reader.ts";
import { createScratch, takeArray } from "./formats/_byte_source.ts";
import { convert, type FileTensor, halvesToPairs, widen } from "./formats/_file_tensor.ts";
import { GgufFile } from "./formats/gguf.ts";
import type { LayerWeights, ModelWeights } from "./weights.ts";

/** Trailing parts of tensor names that change the computation, with a name for each. */
const UNSUPPORTED_TENSORS: readonly [suffix: string, what: string][] = [
  [".bias", "a bias"],
  ["_exps.weight", "experts"],
  ["ffn_gate_inp.weight", "an expert router"],
  ["_scale_inv", "scales of quantised weights"],
];

/** Tensors that repeat a config's values, or whose values were used when the config was read. */
const KNOWN_TENSORS = new RegExp(
  `^(${ROPE_TENSORS.join("|")})$|\\.rotary_emb\\.inv_freq$`.replaceAll(".weight", "\\.weight"),
);

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
    layers: Array.from({ length: config.numLayers }, (_, layer) => {
      const entries = Object.entries<TensorSpec>(layerTensors).map(([name, { gguf, hf, ...spec }]) => {
        return [name, make({ ...spec, gguf: `blk.${layer}.${gguf}`, hf: `model.layers.${layer}.${hf}` })];
      });
      return Object.fromEntries(entries) as LayerWeights<T>;
    }),
    outputNorm: make(outputNorm),
    output: config.tieWordEmbeddings ? table : make(output),
  };
}

/**
 * Takes a model's weights out of a file or folder. They are views of its bytes if these are in memory, otherwise they
 * are read one by one. They are copied where kernels need another order.
 *
 * @param place Converts each tensor (default: to itself) before the next is read. So the file's part in memory is never
 * larger than the tensors placed and one more.
 * @param dtype Element type of all matrices; left out: each as the file has it. Norms and biases are f32.
 * @param take Gives memory for matrices that are read or turned into another type; see `Backend.hostMemory`.
 * @throws {ModelFormatError} If a tensor is missing, has a shape other than the config's, or has no place in its
 * architecture (experts, ...); the message names the tensor.
 */
export function loadWeights<T extends Tensor = HostTensor>(
  source: ModelSource,
  config: ModelConfig,
  place: (tensor: HostTensor) => T = (tensor) => tensor as Tensor as T,
  dtype?: WeightDType,
  take = takeArray,
): ModelWeights<T> {
  checkWeights(source, config, dtype);
  expectTied(source, config);
  const isGguf = source instanceof GgufFile,
    inHalves = !isGguf || architectureOf(config).gguf!.rotary === "halves";
  const scratch = createScratch();
  return createWeights(config, (spec) => {
    const { shape, fused, rotaryHeads } = spec, found = findTensor(source, spec);
    const reorders = rotaryHeads !== undefined && inHalves, offset = isGguf ? 0 : spec.hfOffset ?? 0;
    const widens = spec.dtype === "f32" && (found.dtype !== "f32" || offset !== 0);
    const wanted = typeOf(spec, found.dtype, dtype), converts = !widens && wanted !== found.dtype;
    const copies = reorders || widens || converts || fused !== undefined;
    const borrowed = found.borrow?.(copies ? scratch : take);
    let tensor = borrowed ?? { dtype: found.dtype, shape: found.shape, data: found.data };
    if (fused !== undefined) {
      tensor = rowsOf(tensor, fused[0], fused[0] + shape[0]!);
      // Else the others would stay in memory for them.
      if (!reorders && !converts && !widens) tensor = { ...tensor, data: tensor.data.slice() };
    }
    if (reorders) {
      const inPlace = borrowed && (converts || widens) ? tensor.data : undefined;
      tensor = halvesToPairs(tensor, rotaryHeads, config.rope.dims ?? config.headDim, inPlace);
    }
    try {
      if (converts) tensor = convert(tensor, dtype!, take);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      throw errorIn(source, `cannot turn tensor "${nameOf(source, spec)}" into ${dtype}: ${error.message}`);
    }
    return place(widens ? widen(tensor, offset) : tensor);
  });
}

function typeOf(spec: TensorSpec, found: DType, dtype: WeightDType | undefined): DType {
  return spec.dtype ?? dtype ?? found;
}

const errorIn = ({ file }: ModelSource, says: string) => new ModelFormatError(file, says);

function nameOf(source: ModelSource, spec: TensorSpec): string {
  return source instanceof GgufFile ? spec.gguf : spec.hf;
}

/**
 * Checks, without reading any values, that a file or folder has a model's tensors and no others; throws as
 * {@linkcode loadWeights}. Gives how many values its weights have, and the bytes that they will take.
 *
 * @throws {ModelFormatError} If a tensor is missing, unknown or of another shape.
 */
export function checkWeights(
  source: ModelSource,
  config: ModelConfig,
  dtype?: WeightDType,
): { values: number; bytes: number } {
  const taken = new Set<string>();
  let bytes = 0, values = 0;
  createWeights(config, (spec) => {
    const found = findTensor(source, spec), name = nameOf(source, spec);
    if (spec.dtype === "f32" && DTYPES[found.dtype].blockSize > 1) {
      throw errorIn(source, `found tensor "${name}" in ${found.dtype}, expected f32, f16 or bf16`);
    }
    const wanted = typeOf(spec, found.dtype, dtype), row = spec.shape.at(-1)!, { blockSize } = DTYPES[wanted];
    if (row % blockSize !== 0) {
      const expected = `a multiple of ${wanted}'s block of ${blockSize} (bf16 and f16 take any)`;
      throw errorIn(source, `found rows of ${row} in tensor "${name}", expected ${expected}`);
    }
    taken.add(name);
    values += countOf(spec.shape);
    bytes += byteSize(wanted, countOf(spec.shape));
    return found;
  });
  if (config.tieWordEmbeddings) taken.add(architectureOf(config).modelTensors(config).output.hf);
  for (const name of source.tensors.keys()) {
    if (!taken.has(name) && !KNOWN_TENSORS.test(name)) throw unknownTensorError(source, config, name);
  }
  return { values, bytes };
}

/**
 * Checks that the output projection of a folder that ties it to the embedding is the embedding, where it is there too.
 * Where it is not, transformers takes one or the other, by its version.
 */
function expectTied(source: ModelSource, config: ModelConfig): void {
  const { embedding, output } = architectureOf(config).modelTensors(config);
  const own = source.tensors.get(output.hf);
  if (!config.tieWordEmbeddings || own === undefined) return;
  const tied = findTensor(source, embedding), [a, b] = [tied.data, own.data];
  if (tied.dtype === own.dtype && a.length === b.length && a.every((x, i) => x === b[i])) return;
  const says = `found tensor "${output.hf}" with other values than "${embedding.hf}"`;
  throw errorIn(source, `${says}, expected the same, or tie_word_embeddings false in config.json`);
}

/** A tensor as the file has it, whole where others are fused with it. */
function findTensor(source: ModelSource, spec: TensorSpec): FileTensor {
  const name = nameOf(source, spec);
  const shape = spec.fused === undefined ? spec.shape : [spec.fused[1], ...spec.shape.slice(1)];
  const tensor = source.tensors.get(name);
  if (tensor === undefined) {
    throw errorIn(source, `found no tensor "${name}", expected one of shape [${shape}]`);
  }
  if (tensor.shape.length !== shape.length || tensor.shape.some((size, i) => size !== shape[i])) {
    throw errorIn(source, `found tensor "${name}" with shape [${tensor.shape}], expected [${shape}]`);
  }
  return tensor;
}

function unknownTensorError(source: ModelSource, config: ModelConfig, name: string): ModelFormatError {
  const what = UNSUPPORTED_TENSORS.find(([suffix]) => name.endsWith(suffix))?.[1];
  const layer = /^(?:blk|model\.layers)\.(\d+)\./.exec(name)?.[1];
  const found = what === undefined ? `tensor "${name}"` : `tensor "${name}" (${what})`;
  const why = layer !== undefined && Number(layer) >= config.numLayers
    ? `expected ${config.numLayers} blocks, as in the config`
    : "expected only tensors that this project supports, as its results could be wrong";
  return errorIn(source, `found ${found}, ${why}`);
}
