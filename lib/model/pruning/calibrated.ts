/** A model next to its calibration text, as input of methods that alter it. */
import type { CalibratedModel, LayerAlteration, PartImportance } from "../../methods/protocol/calibration.ts";
import { createDropped } from "../../methods/protocol/dropped.ts";
import { f32Data, type HostTensor, hostTensor, rowsOf, type Tensor } from "../../tensor.ts";
import { asF32 } from "../formats/_file_tensor.ts";
import type { RunModel, See } from "../run/forward_pass.ts";

/** A cosine that is undefined counts as this, as in ShortGPT's code. */
const UNDEFINED_COSINE = 0.5;

/** Rows of logits that exist at a time. */
const ROWS_PER_BLOCK = 128;

/**
 * A model on a calibration text.
 *
 * @param chunks Calibration text, each at least one token; each is run on its own.
 * @param alter Makes the model in which only one layer is altered.
 * @param onStep Called between two steps; an error that it throws ends the fit.
 * @throws {RangeError} If there is no text.
 * Chunks are [tokens] i32.
 */
export function modelOnText(
  model: RunModel,
  chunks: readonly Int32Array<ArrayBuffer>[],
  alter: (layer: number, alteration: LayerAlteration) => RunModel,
  onStep: () => void = () => {},
): CalibratedModel {
  const { backend, config, weights } = model;
  let importance: PartImportance | undefined;
  if (chunks.every(({ length }) => length === 0)) {
    throw new RangeError("Cannot measure parts: found no calibration text");
  }

  function watch(see: See): void {
    for (const ids of chunks) {
      const sequence = model.start(undefined, {
        see: (...seen) => {
          onStep();
          see(...seen);
        },
      });
      backend.free(sequence.feed(ids));
      sequence.free();
    }
  }

  return {
    config,

    get importance() {
      return importance ??= measureParts(model, watch);
    },

    lossesWithout(gone, candidates) {
      const losses = candidates.map(() => 0), last = Math.max(...candidates);
      let count = 0;
      for (const ids of chunks) {
        count += ids.length - 1;
        let stream = model.embed(ids);
        for (let layer = 0; layer <= last; layer++) {
          onStep();
          const at = candidates.indexOf(layer), without = [...gone, layer];
          if (at >= 0) {
            const sequence = model.start(createDropped(config, { attention: without, mlp: without }));
            for (const loss of lossesOf(model, sequence.feedResidual(stream, layer + 1), ids)) {
              losses[at]! += loss;
            }
            sequence.free();
          }
          if (!gone.includes(layer)) stream = through(model, stream, layer);
        }
        backend.free(stream);
      }
      return losses.map((sum) => sum / count);
    },

    matrix: (layer, name) => readMatrix(model, layer, name),

    bias(layer, name) {
      const tensor = weights.layers[layer]![`${name}Bias`];
      return tensor && asF32(backend.read(tensor));
    },

    run(names, see) {
      watch((layer, name, x) => {
        if (names.includes(name)) see(layer, name, f32Data(backend.read(x)).slice(), x.shape[0]!);
      });
    },

    walk(names, open) {
      const streams = chunks.map((ids) => model.embed(ids));
      const layers = Array.from({ length: config.numLayers }, (_, layer) => {
        const visit = open(layer);
        const see: See = (_, name, x) => {
          if (names.includes(name)) visit.see(name, f32Data(backend.read(x)).slice(), x.shape[0]!);
        };
        streams.forEach((stream) => {
          onStep();
          const x = backend.resizeRows(stream, stream.shape[0]!);
          backend.free(through(model, x, layer, see));
        });
        const alteration = visit.close(), altered = alter(layer, alteration);
        streams.forEach((stream, i) => streams[i] = through(altered, stream, layer));
        // All layers are altered again, at once, when the alteration of the last one is known.
        const had = Object.values(weights.layers[layer]!);
        for (const tensor of Object.values(altered.weights.layers[layer]!)) {
          if (!had.includes(tensor)) backend.free(tensor);
        }
        return alteration;
      });
      streams.forEach((stream) => backend.free(stream));
      return { layers };
    },
  };
}

/** Losses of all tokens but the first. Takes the hidden states over. */
function lossesOf(model: RunModel, hidden: Tensor, ids: Int32Array<ArrayBuffer>): number[] {
  const { backend } = model, host = backend.read(hidden), rows = ids.length - 1;
  const losses: number[] = [];
  for (let start = 0; start < rows; start += ROWS_PER_BLOCK) {
    const end = Math.min(start + ROWS_PER_BLOCK, rows), targets = ids.slice(start + 1, end + 1);
    const some = backend.upload(rowsOf(host, start, end)), logits = model.logits(some);
    const wanted = backend.upload(hostTensor("i32", [end - start], targets));
    losses.push(...backend.nll(logits, wanted));
    for (const tensor of [some, logits, wanted]) backend.free(tensor);
  }
  backend.free(hidden);
  return losses;
}

/** 1 less the mean cosine of the residual stream before and after each part; of the full model, in one pass. */
function measureParts({ backend, config }: RunModel, watch: (see: See) => void): PartImportance {
  const zeros = () => new Array<number>(config.numLayers).fill(0);
  const attention = zeros(), mlp = zeros(), block = zeros();
  let tokens = 0, before = new Float32Array(0), between = before;
  watch((layer, name, x) => {
    if (name !== "attention" && name !== "mlp") return;
    const stream = f32Data(backend.read(x)).slice(), rows = x.shape[0]!;
    if (name === "mlp") {
      attention[layer]! += sumCosines(before, stream, rows);
      between = stream;
      return;
    }
    if (layer === 0) tokens += rows;
    else {
      // Where no layer follows, the stream is shown all the same.
      mlp[layer - 1]! += sumCosines(between, stream, rows);
      block[layer - 1]! += sumCosines(before, stream, rows);
    }
    before = stream;
  });
  const of = (sums: readonly number[]) => sums.map((sum) => 1 - sum / tokens);
  return { attention: of(attention), mlp: of(mlp), block: of(block) };
}

function sumCosines(a: Float32Array, b: Float32Array, rows: number): number {
  const width = a.length / rows;
  let sum = 0;
  for (let row = 0; row < rows; row++) {
    let dot = 0, aa = 0, bb = 0;
    for (let i = row * width; i < (row + 1) * width; i++) {
      dot += a[i]! * b[i]!;
      aa += a[i]! * a[i]!;
      bb += b[i]! * b[i]!;
    }
    sum += aa * bb === 0 ? UNDEFINED_COSINE : dot / Math.sqrt(aa * bb);
  }
  return sum;
}

/** Takes a residual stream over, and returns the output of a layer. */
function through(model: RunModel, x: Tensor, layer: number, see?: See): Tensor {
  const sequence = model.start(undefined, see && { see }), out = sequence.throughLayer(x, layer);
  sequence.free();
  return out;
}

/** A matrix of a layer in f32, a copy. */
export function readMatrix({ backend, weights }: RunModel, layer: number, name: string): HostTensor {
  const tensor = weights.layers[layer]![name]!;
  return hostTensor("f32", tensor.shape, asF32(backend.read(tensor)).slice());
}
