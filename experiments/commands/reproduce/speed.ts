/** The speed of a model's sizes on this machine, from one layer of random weights: no weights of the model are needed. */
import type { Backend } from "../../../lib/backend.ts";
import { outputFlops } from "../../../lib/cost.ts";
import { byteSize, type CacheDType, type DType } from "../../../lib/dtype.ts";
import type { ModelConfig } from "../../../lib/model/config/config.ts";
import { createWeights } from "../../../lib/model/load_weights.ts";
import { Model } from "../../../lib/model/model.ts";
import { countOf, type HostTensor, hostTensor, type Tensor } from "../../../lib/tensor.ts";
import { layerFlops } from "./workload.ts";

/** Largest width of a timed layer, and most rows of the output layer: others are scaled by their operations. */
const MOST_WIDTH = 2048, MOST_ROWS = 8192;
/** Tokens of a short and a long timed sequence, and the most that count as short. */
const SHORT = 32, LONG = 256, MOST_SHORT = 96;
/** Shortest time of a measurement, and tokens whose logits are timed. */
const LEAST_MS = 200, SCORED = 32;
/** Bytes of weights: small positive numbers in all dense types. */
const FILL = 0x3c;

/** The speed of parts of a model. */
export interface Speed {
  /** Seconds that a layer takes for a sequence of `tokens` tokens. */
  layer(tokens: number): number;
  /** Seconds for the logits and the loss of one token. */
  readonly logits: number;
}

/** The speed of a model's sizes where all operations take the same time. */
export const speedAt = (config: ModelConfig, flopsPerSecond: number): Speed => ({
  layer: (tokens) => layerFlops(config, tokens) / flopsPerSecond,
  logits: outputFlops(config, 1) / flopsPerSecond,
});

function fill(dtype: DType, shape: readonly number[]): HostTensor {
  const bytes = new Uint8Array(byteSize(dtype, countOf(shape))).fill(FILL), { buffer } = bytes;
  const data = dtype === "f32"
    ? new Float32Array(buffer)
    : /^b?f16$/.test(dtype)
    ? new Uint16Array(buffer)
    : bytes;
  return hostTensor(dtype, shape, data as never);
}

/** Seconds of a run: the mean of several, after one that is not counted. */
function time(run: () => void, leastMs: number): number {
  run();
  const began = performance.now();
  let count = 0, ms = 0;
  do {
    run();
    count++;
    ms = performance.now() - began;
  } while (ms < leastMs);
  return ms / 1000 / count;
}

/** Sizes of one layer of a model, halved until it is narrow enough, and of fewer tokens. */
function sizesOf({ layers, ...config }: ModelConfig): ModelConfig {
  const own = { ...config, numLayers: 1, vocabSize: Math.min(MOST_ROWS, config.vocabSize) };
  const halved = ["hiddenSize", "intermediateSize", "numHeads", "numKvHeads"] as const;
  // A row is a whole number of blocks of 256, the largest of quantized types.
  while (
    own.hiddenSize > MOST_WIDTH && own.hiddenSize % 512 === 0 && halved.every((size) => own[size] % 2 === 0)
  ) {
    for (const size of halved) own[size] /= 2;
  }
  return { ...own, ...(layers && { layers: layers.slice(0, 1) }) };
}

/**
 * Measures a model's sizes.
 *
 * @param dtype Type of the weights' matrices.
 * @param leastMs Shortest time of a measurement.
 */
export function measureSpeed(
  backend: Backend,
  config: ModelConfig,
  dtype: DType,
  cacheDType: CacheDType,
  leastMs = LEAST_MS,
): Speed {
  const own = sizesOf(config);
  const weights = createWeights<Tensor>(own, (spec) => backend.upload(fill(spec.dtype ?? dtype, spec.shape)));
  const model = new Model(own, weights, backend, { cacheDType }), known = new Map<number, number>();
  const feed = (tokens: number) => () => {
    using sequence = model.start();
    backend.free(sequence.feed(new Int32Array(tokens)));
    backend.synchronize?.();
  };
  const layer = (tokens: number) => {
    const timed = tokens <= MOST_SHORT ? SHORT : LONG;
    if (!known.has(timed)) known.set(timed, time(feed(timed), leastMs) / layerFlops(own, timed));
    return known.get(timed)! * layerFlops(config, tokens);
  };
  using sequence = model.start();
  const hidden = sequence.feed(new Int32Array(SCORED)),
    targets = backend.upload(hostTensor("i32", [SCORED], new Int32Array(SCORED)));
  const score = () => {
    const logits = model.logits(hidden);
    backend.nll(logits, targets);
    backend.free(logits);
  };
  const scale = outputFlops(config, 1) / outputFlops(own, 1);
  return { layer, logits: time(score, leastMs) / SCORED * scale };
}
