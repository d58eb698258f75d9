/** The model that stands for another one, once a method has left parts, heads and channels of it out. */
import type { Alteration, Alters, Calibration, LayerAlteration } from "../../methods/protocol/calibration.ts";
import { createDropped } from "../../methods/protocol/dropped.ts";
import type { Pruner } from "../../methods/protocol/pruner.ts";
import { byteSize } from "../../dtype.ts";
import { countOf, type HostTensor, hostTensor, type Tensor } from "../../tensor.ts";
import { asF32, convert } from "../formats/_file_tensor.ts";
import { modelOnText } from "./calibrated.ts";
import { layerConfig } from "../config/config.ts";
import type { RunModel } from "../run/forward_pass.ts";
import type { LayerWeights } from "../weights.ts";

interface Altered {
  readonly model: RunModel;
  readonly pruner: Pruner;
}

/** Altered models live as long as a pruner that asked for them. */
const byPruner = new WeakMap<Alters, WeakMap<RunModel, Altered>>();
const byKey = new WeakMap<RunModel, Map<string, WeakRef<Altered>>>();

/** The model that a pruner makes of another, once for all pruners of the same key. */
export function alteredBy(model: RunModel, alters: Alters): Altered {
  const own = byPruner.get(alters) ?? new WeakMap<RunModel, Altered>(),
    shared = byKey.get(model) ?? new Map<string, WeakRef<Altered>>();
  byPruner.set(alters, own);
  byKey.set(model, shared);
  const altered = shared.get(alters.key)?.deref() ??
    alterModel(model, alters.alter(onText(model, alters.calibration)));
  own.set(model, altered);
  shared.set(alters.key, new WeakRef(altered));
  return altered;
}

const onText = (model: RunModel, { chunks, onStep }: Calibration) =>
  modelOnText(model, chunks, (layer, alteration) => {
    const layers = model.weights.layers.map((_, i) => i === layer ? alteration : {});
    return alterModel(model, { layers }).model;
  }, onStep);

/** A model with parts, heads and channels left out, and tensors replaced. */
export function alterModel(model: RunModel, { drops = {}, layers }: Alteration): Altered {
  const { config } = model, pruner = createDropped(config, drops);
  if (layers === undefined) return { model, pruner };
  const own = layers.map((alteration, layer) => alterLayer(model, layer, alteration));
  const sizes = own.map((weights, layer) => ({
    ...layerConfig(config, layer),
    numHeads: weights.q.shape[0]! / config.headDim,
    numKvHeads: weights.k.shape[0]! / config.headDim,
    intermediateSize: weights.gate.shape[0]!,
  }));
  const weights = { ...model.weights, layers: own };
  return { model: model.alike({ ...config, layers: sizes }, weights), pruner };
}

/** Rows and columns that are removed with heads or channels, and their parts of a tensor. */
function alterLayer(
  { backend, config, weights }: RunModel,
  layer: number,
  { groups, channels, tensors = {} }: LayerAlteration,
): LayerWeights {
  const had = weights.layers[layer]!, own: { [name: string]: HostTensor } = {};
  for (const [name, tensor] of Object.entries(tensors)) own[name] = storeLike(had.q, tensor);
  const cut = (names: readonly string[], of: (tensor: HostTensor) => HostTensor) => {
    for (const name of names) {
      const tensor = own[name] ?? (had[name] && backend.read(had[name]));
      if (tensor !== undefined) own[name] = of(tensor);
    }
  };
  const { headDim, numHeads, numKvHeads } = config;
  const heads = (each: number) =>
    groups!.flatMap((group) => Array.from({ length: each * headDim }, (_, i) => group * each * headDim + i));
  if (groups !== undefined && groups.length < numKvHeads) {
    const queries = heads(numHeads / numKvHeads), keys = heads(1);
    cut(["q", "qBias"], (tensor) => pickRows(tensor, queries));
    cut(["k", "v", "kBias", "vBias"], (tensor) => pickRows(tensor, keys));
    cut(["o"], (tensor) => pickColumns(tensor, queries));
  }
  if (channels !== undefined && channels.length < had.gate.shape[0]!) {
    cut(["gate", "up", "gateBias", "upBias"], (tensor) => pickRows(tensor, channels));
    cut(["down"], (tensor) => pickColumns(tensor, channels));
  }
  const uploaded = Object.entries(own).map(([name, tensor]) => [name, backend.upload(tensor)]);
  return { ...had, ...Object.fromEntries(uploaded) };
}

/** Some rows of a matrix of any type, or entries of a vector. */
function pickRows({ dtype, shape, data }: HostTensor, rows: readonly number[]): HostTensor {
  const rest = shape.slice(1), width = byteSize(dtype, countOf(rest)) / data.BYTES_PER_ELEMENT;
  const picked = data.slice(0, rows.length * width);
  rows.forEach((row, i) => picked.set(data.subarray(row * width, (row + 1) * width), i * width));
  return hostTensor(dtype, [rows.length, ...rest], picked);
}

/** Some columns of a matrix: in f32 where it is in f32, else, as blocks come apart, in f16. */
function pickColumns(tensor: HostTensor, columns: readonly number[]): HostTensor {
  const [rows, width] = tensor.shape as [number, number], all = asF32(tensor);
  const picked = new Float32Array(rows * columns.length);
  for (let row = 0; row < rows; row++) {
    columns.forEach((column, i) => picked[row * columns.length + i] = all[row * width + column]!);
  }
  return storeLike(tensor, hostTensor("f32", [rows, columns.length], picked));
}

/** A matrix as it is where another is in f32, else in f16, which must hold its values; a vector as it is. */
function storeLike(other: Tensor, matrix: HostTensor): HostTensor {
  return other.dtype === "f32" || matrix.shape.length === 1 ? matrix : convert(matrix, "f16");
}
