/** How much of each head's output reaches the residual stream. */
import { hostTensor, type Tensor } from "../../tensor.ts";
import type { RunModel } from "./run_model.ts";

const known = new WeakMap<RunModel, Map<number, Tensor>>();

/**
 * Of each head of a layer the mean square, over directions of its output, of what the output projection makes of a unit
 * vector: the squares of the projection's entries for that head, summed, by headDim. [numHeads] f32 on the model's
 * backend, where it stays.
 */
export function headWeights(model: RunModel, layer: number): Tensor {
  const layers = known.get(model) ?? new Map<number, Tensor>();
  known.set(model, layers);
  const tensor = layers.get(layer) ?? measure(model, layer);
  layers.set(layer, tensor);
  return tensor;
}

function measure({ backend, config: { numHeads, headDim }, weights }: RunModel, layer: number): Tensor {
  const projection = weights.layers[layer]!["o"]!, width = numHeads * headDim;
  const out = backend.alloc("f32", [headDim, projection.shape[0]!]),
    units = new Float32Array(headDim * width);
  const squares = Float32Array.from({ length: numHeads }, (_, head) => {
    units.fill(0);
    for (let c = 0; c < headDim; c++) units[c * width + head * headDim + c] = 1;
    const rows = backend.upload(hostTensor("f32", [headDim, width], units));
    backend.linear(rows, projection, out);
    backend.free(rows);
    return backend.rowNorms(out).reduce((sum, norm) => sum + norm * norm, 0) / headDim;
  });
  backend.free(out);
  return backend.upload(hostTensor("f32", [numHeads], squares));
}
