/** Signals of computed queries about keys, from the attention op itself: attention weights, and changes of outputs. */
import { type AttentionArgs, type Backend, headsOfKeys, LEAST_OTHERS } from "../../backend.ts";
import type { RowSignal, ShownRows, Signal, Signals } from "../../methods/protocol/signals.ts";
import { dequantize } from "../../reference/dequantize.ts";
import { f32Data, hostTensor, type Tensor } from "../../tensor.ts";
import { asMatrix, type LayerRows, type RunModel } from "./forward_pass.ts";
import { pickRows, type Rows } from "./cache/row_indices.ts";

type Inputs = Omit<AttentionArgs, "out">;

/**
 * Mean over heads of the probabilities that queries give to the cached rows from `from` on, [R, U], U = numKeys - from.
 * It is 0 for a row that a query does not attend to.
 */
export function meanProbabilities(backend: Backend, args: Inputs, from: number): Float64Array {
  const [queries] = args.queries.shape as [number], tokens = args.numKeys - from;
  const all = new Float64Array(queries * tokens), { length: numHeads } = headsOfKeys(args);
  eachProbability(backend, args, from, (query, _, row, probability) => {
    all[query * tokens + row]! += probability / numHeads;
  });
  return all;
}

/**
 * How much the outputs of queries, which `args` has, would change without each of those rows, as
 * {@linkcode AttentionChanges} has it, [R, U]. @param headWeights [numHeads]
 */
export function outputChanges(
  backend: Backend,
  args: AttentionArgs,
  from: number,
  headWeights: Float32Array,
): Float64Array {
  const [queries, numHeads, headDim] = args.queries.shape as [number, number, number];
  const numKvHeads = args.values.shape[1]!, tokens = args.numKeys - from, width = numKvHeads * headDim;
  const out = f32Data(backend.read(args.out));
  const values = dequantize(backend.read(args.values), from * width, tokens * width);
  const all = new Float64Array(queries * tokens);
  eachProbability(backend, args, from, (query, [kvHead, head], row, probability) => {
    const own = (query * numHeads + head) * headDim, value = row * width + kvHead * headDim;
    let distance = 0;
    for (let c = 0; c < headDim; c++) distance += (values[value + c]! - out[own + c]!) ** 2;
    all[query * tokens + row]! += headWeights[head]! * distance *
      (probability / Math.max(1 - probability, LEAST_OTHERS)) ** 2;
  });
  return all;
}

/** Tensors of a layer's tokens: its rows before attention, and behind it the output of the MLP, [T, hiddenSize] f32. */
type LayerTensors = Partial<LayerRows> & { readonly mlp?: Tensor };

/** A row signal, [T, width]; undefined where it does not follow from these tensors. */
type FromTensors = (known: LayerTensors, backend: Backend) => Tensor | Float64Array | undefined;

const FROM_TENSORS: { readonly [S in RowSignal]: FromTensors } = {
  keys: ({ keys }) => keys,
  values: ({ values }) => values,
  queries: ({ queries }) => queries,
  residual: ({ residual }) => residual,
  normed: ({ normed }) => normed,
  mlp: ({ mlp }) => mlp,
};

/** Those of the signals that follow from some tensors of a layer, [T, width] each. */
export function rowSignals(
  backend: Backend,
  known: LayerTensors,
  signals: readonly RowSignal[],
): Pick<ShownRows, "signal" | "data">[] {
  return signals.flatMap((signal) => {
    const found = FROM_TENSORS[signal](known, backend);
    if (found === undefined) return [];
    return [{ signal, data: found instanceof Float64Array ? found : f32Data(backend.read(found)) }];
  });
}

/** What is read of a call of attention: signals of some queries about the last cached rows. */
export interface Shown {
  readonly signals: readonly Signal[];
  /** Places of the queries, ascending, at least one. */
  readonly queries: Rows;
  /** How many of the last cached rows. */
  readonly keys: number;
  /** What is nearer to a query than this need not be right. */
  readonly distance: number;
}

/**
 * Attention, and signals of its queries, [queries, keys] f64: from the op if it has them, else by more calls.
 *
 * @param room Gives room for results, f64. These, and the returned signals, last until the name is taken again.
 * @param headWeights Where `change` is shown: [numHeads] f32, on the backend.
 */
export function attendShowing(
  backend: Backend,
  args: AttentionArgs,
  { signals, queries, keys, distance }: Shown,
  room: (name: string, shape: readonly number[]) => Tensor,
  headWeights?: Tensor,
): Signals["rows"] {
  const count = args.queries.shape[0]!, first = backend.givesShares ? queries[0]! : 0;
  const places = queries.map((place) => place - first);
  const pick = (all: Float64Array) => places.length === count - first ? all : pickRows(all, places, keys);
  if (!backend.givesShares) {
    backend.attention(args);
    const from = args.numKeys - keys;
    const find: { readonly [S in Signal]: () => Float64Array } = {
      attention: () => meanProbabilities(backend, args, from),
      change: () => outputChanges(backend, args, from, f32Data(backend.read(headWeights!))),
    };
    return Object.fromEntries(signals.map((name) => [name, pick(find[name]())]));
  }
  const shape = [count - first, keys], read = (x: Tensor) => pick(backend.read(x).data as Float64Array);
  const shares = room("shares", shape), out = signals.includes("change") ? room("changes", shape) : undefined;
  const changes = out && { out, headWeights: headWeights! };
  backend.attention({ ...args, shares, shareDistance: distance, ...(changes && { changes }) });
  return {
    ...(signals.includes("attention") && { attention: read(shares) }),
    ...(out && { change: read(out) }),
  };
}

/** Visits each head's probabilities: attention with unit vectors for values, headDim rows a call. */
function eachProbability(
  backend: Backend,
  args: Inputs,
  from: number,
  visit: (
    query: number,
    heads: readonly [kvHead: number, head: number],
    row: number,
    probability: number,
  ) => void,
): void {
  const [queries, numHeads, headDim] = args.queries.shape as [number, number, number];
  const { shape, dtype } = args.values, numKvHeads = shape[1]!, width = numKvHeads * headDim;
  const tokens = args.numKeys - from, { places } = args.kvPlaces ?? {};
  const heads = headsOfKeys(args, places && backend.read(places).data as Int32Array);
  const units = backend.alloc(dtype as "f32", shape), out = backend.alloc("f32", args.queries.shape);
  for (let first = 0; first < tokens; first += headDim) {
    const rows = Math.min(headDim, tokens - first), block = new Float32Array(rows * width);
    for (let row = 0; row < rows; row++) {
      for (let head = 0; head < numKvHeads; head++) block[row * width + head * headDim + row] = 1;
    }
    const store = (values: Float32Array<ArrayBuffer>) => {
      const tensor = backend.upload(hostTensor("f32", [rows, width], values));
      backend.storeRows(tensor, asMatrix(units), from + first);
      backend.free(tensor);
    };
    store(block);
    backend.attention({ ...args, values: units, out });
    store(block.fill(0));
    const attended = f32Data(backend.read(out));
    for (let query = 0; query < queries; query++) {
      for (let row = 0; row < rows; row++) {
        for (const pair of heads) {
          visit(query, pair, first + row, attended[(query * numHeads + pair[1]) * headDim + row]!);
        }
      }
    }
  }
  backend.free(units);
  backend.free(out);
}

/** Weights of heads that were measured, by model and layer. */
const measured = new WeakMap<RunModel, Map<number, Tensor>>();

/**
 * Mean square gain of the output projection for each head of a layer, over directions of the head's output. It is the
 * sum of the squares of the projection's entries for that head, divided by headDim. [numHeads] f32 on the model's
 * backend, where it stays.
 */
export function headWeights(model: RunModel, layer: number): Tensor {
  const layers = measured.get(model) ?? new Map<number, Tensor>();
  measured.set(model, layers);
  const tensor = layers.get(layer) ?? measureHeads(model, layer);
  layers.set(layer, tensor);
  return tensor;
}

function measureHeads({ backend, config: { numHeads, headDim }, weights }: RunModel, layer: number): Tensor {
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
