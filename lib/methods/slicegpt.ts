/** Offline: the directions of the residual stream that hold least of it, block by block (SliceGPT, arXiv 2401.15024). */
import { greatestDirections } from "../symmetric.ts";
import { type HostTensor, hostTensor } from "../tensor.ts";
import type { CalibratedModel, LayerAlteration } from "./calibration.ts";
import type { OfflineMethod } from "./offline.ts";
import { transpose } from "./width.ts";

/** Directions that stay come in eights, as in the authors' code. */
const ROUND = 8;

/** Added to the diagonal, as a share of its mean. */
const DAMPING = 0.01;

/**
 * Before each attention block, each MLP and the output the stream is turned into its principal components on the calibration
 * text, and `pruneRatio` of them, the least, are left out; each on what those before leave. Norms are taken into the matrices
 * behind them, and the stream is turned from basis to basis beside each block. The output layer sees the sliced stream too.
 */
export const slicegpt: OfflineMethod<"slicegpt"> = {
  name: "slicegpt",
  help:
    "the directions of the stream that hold least of it on a calibration text, matrices turned to do without (SliceGPT)",
  offline: true,
  alter(model, { pruneRatio }) {
    const { hiddenSize, numLayers } = model.config;
    const rounded = Math.max(ROUND, Math.round((1 - pruneRatio) * hiddenSize / ROUND) * ROUND);
    const kept = Math.min(hiddenSize, rounded);
    const unit = hostTensor("f32", [kept], new Float32Array(kept).fill(Math.sqrt(hiddenSize / kept)));
    const slice = (streams: readonly HostTensor[]) => {
      const basis = principal(model, streams, hiddenSize, kept);
      const whole = turn(basis);
      return {
        basis,
        streams: streams.map((rows) => product(model, product(model, rows, basis), whole)),
      };
    };
    let own = slice(model.embed());
    const inputTurn = own.basis;
    const layers = Array.from({ length: numLayers }, (_, layer): LayerAlteration => {
      const before = own.basis, between = slice(model.part(layer, "attention", own.streams));
      own = slice(model.part(layer, "mlp", between.streams));
      const into = (names: readonly string[], norm: string, basis: HostTensor) =>
        names.map((
          name,
        ) => [name, product(model, scaled(model.matrix(layer, name), model.matrix(layer, norm)), basis)]);
      const outOf = (name: string, basis: HostTensor) => {
        const bias = model.bias(layer, name);
        const turned = bias && product(model, basis, hostTensor("f32", [1, hiddenSize], bias));
        return [
          [name, product(model, basis, turn(model.matrix(layer, name)))],
          ...(turned ? [[`${name}Bias`, hostTensor("f32", [kept], turned.data)]] : []),
        ];
      };
      return {
        tensors: Object.fromEntries([
          ["attnNorm", unit],
          ["ffnNorm", unit],
          ...into(["q", "k", "v"], "attnNorm", before),
          ...outOf("o", between.basis),
          ["attnTurn", product(model, between.basis, before)],
          ...into(["gate", "up"], "ffnNorm", between.basis),
          ...outOf("down", own.basis),
          ["mlpTurn", product(model, own.basis, between.basis)],
        ]),
      };
    });
    const outputTurn = turn(scaled(own.basis, model.outputNorm));
    return { layers, stream: { inputTurn, outputNorm: unit, outputTurn } };
  },
};

/** The greatest directions of streams, [count, size]. */
function principal(
  model: CalibratedModel,
  streams: readonly HostTensor[],
  size: number,
  count: number,
): HostTensor {
  const gram = new Float64Array(size * size);
  for (const rows of streams) {
    const turned = turn(rows);
    model.products(turned, turned).forEach((x, i) => gram[i]! += x);
  }
  let mean = 0;
  for (let i = 0; i < size; i++) mean += gram[i * size + i]! / size;
  for (let i = 0; i < size; i++) gram[i * size + i]! += DAMPING * mean;
  const columns = Float32Array.from(greatestDirections(gram, size, count));
  return turn(hostTensor("f32", [size, count], columns));
}

const turn = ({ data, shape: [rows, columns] }: HostTensor) =>
  hostTensor("f32", [columns!, rows!], transpose(data as Float32Array, columns!));

/** Products of the rows of two matrices, as a matrix. */
const product = (model: CalibratedModel, a: HostTensor, b: HostTensor) =>
  hostTensor("f32", [a.shape[0]!, b.shape[0]!], model.products(a, b));

/** A matrix whose columns are multiplied by a vector. */
function scaled({ data, shape }: HostTensor, { data: factors }: HostTensor): HostTensor {
  const columns = shape[1]!;
  return hostTensor("f32", shape, (data as Float32Array).map((x, i) => x * factors[i % columns]!));
}
