/** Gradients of the mean loss by the matrices of the blocks: one backward pass, for methods that go by first-order importance. */
import { UsageError } from "../errors.ts";
import { f32Data, type HostTensor, hostTensor, type Tensor } from "../tensor.ts";
import { transpose } from "../methods/width.ts";
import { asF32 } from "./_stored_tensor.ts";
import type { Model } from "./model.ts";

/** Called with the gradient of each matrix of the blocks, of its shape, the last layer's first. */
export type SeeGradient = (layer: number, name: string, gradient: Float32Array) => void;

/** A matrix of rows. */
interface Matrix {
  readonly data: Float32Array<ArrayBuffer>;
  readonly width: number;
}

/** What a layer computed, rows of all samples one after the other. */
interface LayerRows {
  [name: string]: Matrix;
}

/** Products of the rows of two matrices. */
type Products = (a: HostTensor, b: HostTensor) => Float32Array<ArrayBuffer>;

/**
 * Goes through the blocks backwards.
 *
 * @param samples Token ids, each sample at least two, run apart; the loss is the mean over all their tokens but the first.
 * @param products Computes them.
 * @throws {UsageError} If the blocks are not Llama's plain ones: biases, norms of heads or after blocks, windows.
 */
export function eachGradient(
  model: Model,
  samples: readonly Int32Array<ArrayBuffer>[],
  products: Products,
  see: SeeGradient,
): void {
  expectPlain(model);
  const { config, weights } = model, { numLayers, rmsNormEps: eps } = config;
  const layers = record(model, samples);
  const forward = (x: Matrix, layer: number, name: string) => {
    const weight = f32(model, weights.layers[layer]![name]!), [rows] = weight.shape as [number];
    return { data: products(asTensor(x), weight), width: rows };
  };
  /** Rows times a matrix, not its transpose. */
  const back = (x: Matrix, weight: HostTensor) => {
    const [, columns] = weight.shape as [number, number];
    const turned = hostTensor(
      "f32",
      [columns, weight.shape[0]!],
      transpose(weight.data as Float32Array, columns),
    );
    return { data: products(asTensor(x), turned), width: columns };
  };
  const toInput = (x: Matrix, layer: number, name: string) =>
    back(x, f32(model, weights.layers[layer]![name]!));
  const gradient = (outer: Matrix, inner: Matrix, layer: number, name: string) =>
    see(layer, name, products(turned(outer), turned(inner)));
  const normBack = (x: Matrix, weight: Tensor, dy: Matrix): Matrix =>
    backThroughNorm(x, f32Data(model.backend.read(weight)), dy, eps);

  let dx = normBack(
    layers[numLayers]!.attention!,
    weights.outputNorm,
    lossGradient(model, samples, layers, back),
  );
  for (let layer = numLayers - 1; layer >= 0; layer--) {
    const { attention: x, mlp: between, q: normed, o: attended, gate: normed2, down: act } = layers[layer]!;
    const own = weights.layers[layer]!;
    gradient(dx, act!, layer, "down");
    const dact = toInput(dx, layer, "down");
    const gate = forward(normed2!, layer, "gate"), up = forward(normed2!, layer, "up");
    for (let i = 0; i < dact.data.length; i++) {
      const g = gate.data[i]!, sigmoid = 1 / (1 + Math.exp(-g)), grad = dact.data[i]!, u = up.data[i]!;
      gate.data[i] = grad * u * sigmoid * (1 + g * (1 - sigmoid));
      up.data[i] = grad * g * sigmoid;
    }
    gradient(gate, normed2!, layer, "gate");
    gradient(up, normed2!, layer, "up");
    const dnormed2 = added(toInput(gate, layer, "gate"), toInput(up, layer, "up"));
    const dbetween = added(dx, normBack(between!, own.ffnNorm, dnormed2));
    gradient(dbetween, attended!, layer, "o");
    const queries = forward(normed!, layer, "q"), keys = forward(normed!, layer, "k");
    const values = forward(normed!, layer, "v"), dattended = toInput(dbetween, layer, "o");
    rotate(model, layer, samples, queries, 1);
    rotate(model, layer, samples, keys, 1);
    const [dq, dk, dv] = backThroughAttention(model, samples, { queries, keys, values, dattended });
    rotate(model, layer, samples, dq, -1);
    rotate(model, layer, samples, dk, -1);
    const parts = Object.entries({ q: dq, k: dk, v: dv }).map(([name, rows]) => {
      gradient(rows, normed!, layer, name);
      return toInput(rows, layer, name);
    });
    dx = added(dbetween, normBack(x!, own.attnNorm, parts.reduce(added)));
  }
}

function expectPlain({ config: { architecture, layers }, weights }: Model): void {
  const plain = ["attnNorm", "q", "k", "v", "o", "ffnNorm", "gate", "up", "down"];
  const other = Object.keys(weights.layers[0]!).find((name) => !plain.includes(name));
  const window = layers?.some(({ window }) => window !== undefined);
  if (other === undefined && !window) return;
  throw new UsageError(
    `Cannot take gradients of a model of architecture "${architecture}": found ${
      other === undefined ? "a layer with a window" : `tensors "${other}"`
    }, expected Llama's plain blocks`,
  );
}

/** Runs the samples, and keeps what each layer saw. The entry behind the last holds the stream that leaves it. */
function record(model: Model, samples: readonly Int32Array<ArrayBuffer>[]): LayerRows[] {
  const wanted = ["attention", "mlp", "q", "o", "gate", "down"];
  const parts = Array.from(
    { length: model.config.numLayers + 1 },
    (): { [name: string]: Float32Array[] } => ({}),
  );
  const widths: { [name: string]: number } = {};
  for (const ids of samples) {
    const sequence = model.start(undefined, {
      see(layer, name, x) {
        if (!wanted.includes(name)) return;
        widths[name] = x.shape[1]!;
        (parts[layer]![name] ??= []).push(f32Data(model.backend.read(x)).slice());
      },
    });
    model.backend.free(sequence.feed(ids));
    sequence.free();
  }
  return parts.map((layer) =>
    Object.fromEntries(
      Object.entries(layer).map(([name, rows]) => [name, { data: joined(rows), width: widths[name]! }]),
    )
  );
}

/** Of the mean loss, by the hidden states after the final norm. */
function lossGradient(
  model: Model,
  samples: readonly Int32Array<ArrayBuffer>[],
  layers: readonly LayerRows[],
  back: (x: Matrix, weight: HostTensor) => Matrix,
): Matrix {
  const { backend, config: { vocabSize, hiddenSize, rmsNormEps }, weights } = model;
  const stream = layers.at(-1)!.attention!, hidden = backend.alloc("f32", [rowsOf(stream), hiddenSize]);
  const uploaded = backend.upload(asTensor(stream));
  backend.rmsNorm(uploaded, weights.outputNorm, rmsNormEps, hidden);
  const logits = model.logits(hidden), rows = f32Data(backend.read(logits)).slice();
  for (const tensor of [uploaded, hidden, logits]) backend.free(tensor);
  const scored = samples.reduce((sum, { length }) => sum + length - 1, 0);
  let at = 0;
  for (const ids of samples) {
    ids.forEach((_, t) => {
      const row = rows.subarray((at + t) * vocabSize, (at + t + 1) * vocabSize);
      if (t === ids.length - 1) return row.fill(0);
      const most = row.reduce((a, b) => Math.max(a, b), -Infinity);
      let sum = 0;
      for (const logit of row) sum += Math.exp(logit - most);
      for (let i = 0; i < vocabSize; i++) row[i] = Math.exp(row[i]! - most) / sum / scored;
      row[ids[t + 1]!]! -= 1 / scored;
    });
    at += ids.length;
  }
  return back({ data: rows, width: vocabSize }, f32(model, weights.output));
}

/** By what entered an RMSNorm. */
function backThroughNorm(x: Matrix, weight: Float32Array, dy: Matrix, eps: number): Matrix {
  const { width } = x, out = new Float32Array(x.data.length);
  for (let first = 0; first < out.length; first += width) {
    let squares = 0, dot = 0;
    for (let i = 0; i < width; i++) {
      squares += x.data[first + i]! ** 2;
      dot += dy.data[first + i]! * weight[i]! * x.data[first + i]!;
    }
    const inverse = 1 / Math.sqrt(squares / width + eps), along = dot * inverse ** 3 / width;
    for (let i = 0; i < width; i++) {
      out[first + i] = dy.data[first + i]! * weight[i]! * inverse - x.data[first + i]! * along;
    }
  }
  return { data: out, width };
}

/** By rotated queries and keys, and by values. */
function backThroughAttention(
  { config: { numHeads, numKvHeads, headDim: d, attentionScale = 1 / Math.sqrt(d) } }: Model,
  samples: readonly Int32Array<ArrayBuffer>[],
  { queries, keys, values, dattended }: {
    readonly [name in "queries" | "keys" | "values" | "dattended"]: Matrix;
  },
): [Matrix, Matrix, Matrix] {
  const zeros = ({ data, width }: Matrix) => ({ data: new Float32Array(data.length), width });
  const dq = zeros(queries), dk = zeros(keys), dv = zeros(values);
  let start = 0;
  for (const { length } of samples) {
    for (let head = 0; head < numHeads; head++) {
      const group = Math.floor(head * numKvHeads / numHeads);
      const q = (t: number) => (start + t) * numHeads * d + head * d;
      const k = (t: number) => (start + t) * numKvHeads * d + group * d;
      for (let t = 0; t < length; t++) {
        const chances = new Float64Array(t + 1), slopes = new Float64Array(t + 1);
        let most = -Infinity, sum = 0, mean = 0;
        for (let j = 0; j <= t; j++) {
          let dot = 0;
          for (let a = 0; a < d; a++) dot += queries.data[q(t) + a]! * keys.data[k(j) + a]!;
          most = Math.max(most, chances[j] = dot * attentionScale);
        }
        for (let j = 0; j <= t; j++) sum += chances[j] = Math.exp(chances[j]! - most);
        for (let j = 0; j <= t; j++) {
          const chance = chances[j]! /= sum;
          for (let a = 0; a < d; a++) {
            slopes[j]! += dattended.data[q(t) + a]! * values.data[k(j) + a]!;
            dv.data[k(j) + a]! += chance * dattended.data[q(t) + a]!;
          }
          mean += chance * slopes[j]!;
        }
        for (let j = 0; j <= t; j++) {
          const slope = chances[j]! * (slopes[j]! - mean) * attentionScale;
          for (let a = 0; a < d; a++) {
            dq.data[q(t) + a]! += slope * keys.data[k(j) + a]!;
            dk.data[k(j) + a]! += slope * queries.data[q(t) + a]!;
          }
        }
      }
    }
    start += length;
  }
  return [dq, dk, dv];
}

/** Turns heads by the positions of their rows, in place: 1 = as the model does, -1 = the transpose of that. */
function rotate(
  model: Model,
  layer: number,
  samples: readonly Int32Array<ArrayBuffer>[],
  x: Matrix,
  sign: 1 | -1,
): void {
  const { backend, config: { headDim } } = model, turns = model.turnsOf(layer);
  if (turns === undefined) return;
  const positions = Int32Array.from(samples.flatMap((ids) => Array.from(ids, (_, t) => sign * t)));
  const rows = backend.upload(hostTensor("f32", [positions.length, x.width / headDim, headDim], x.data));
  const places = backend.upload(hostTensor("i32", [positions.length], positions));
  backend.rope(rows, places, turns);
  x.data.set(f32Data(backend.read(rows)));
  for (const tensor of [rows, places]) backend.free(tensor);
}

const rowsOf = ({ data, width }: Matrix) => data.length / width;
const asTensor = (x: Matrix) => hostTensor("f32", [rowsOf(x), x.width], x.data);
const turned = (x: Matrix) => hostTensor("f32", [x.width, rowsOf(x)], transpose(x.data, x.width));
const added = (a: Matrix, b: Matrix): Matrix => ({
  ...a,
  data: a.data.map((value, i) => value + b.data[i]!),
});

function joined(parts: readonly Float32Array[]): Float32Array<ArrayBuffer> {
  const all = new Float32Array(parts.reduce((sum, { length }) => sum + length, 0));
  parts.reduce((at, part) => (all.set(part, at), at + part.length), 0);
  return all;
}

function f32({ backend }: Model, tensor: Tensor): HostTensor {
  const host = backend.read(tensor);
  return hostTensor("f32", tensor.shape, asF32(host));
}
