/**
 * Which attention blocks, MLPs or whole layers a model can do without, as offline pruning chooses them from calibration
 * text: by how little a part turns the residual stream, or by what its absence costs.
 */
import { scoreSequence } from "../eval/mod.ts";
import { createDropped, type DroppedParts } from "../methods/mod.ts";
import type { Model } from "../model/mod.ts";
import { f32Data, type Tensor } from "../tensor.ts";

/** One number a layer: 1 less the mean cosine, over calibration tokens, of the residual stream before and after the part. */
export interface PartImportance {
  /** Of attention with its norm ("What Matters in Transformers"). */
  readonly attention: readonly number[];
  /** Of the MLP with its norm, on the stream that the layer's attention leaves. */
  readonly mlp: readonly number[];
  /** Of the whole layer: block influence (ShortGPT). */
  readonly block: readonly number[];
}

/** A cosine that is undefined counts as this, as in ShortGPT's code. */
const UNDEFINED_COSINE = 0.5;

/**
 * Measures all parts of the dense model.
 *
 * @param chunks Calibration text, each at least one token; each is run on its own.
 *
 * @example
 * ```ts
 * import { loadModel, ReferenceBackend } from "@tokenfilter/tokenfilter";
 * import { chooseParts, measureParts } from "@tokenfilter/tokenfilter/eval";
 * const { model, tokenizer } = await loadModel("tiny", new ReferenceBackend());
 * const importance = measureParts(model, [tokenizer.encode("It was a dark night.", { bos: true })]);
 * console.assert(chooseParts(importance, "attention", 2).attention.length === 2);
 * ```
 */
export function measureParts(model: Model, chunks: readonly Int32Array<ArrayBuffer>[]): PartImportance {
  const { numLayers } = model.config, tokens = chunks.reduce((sum, { length }) => sum + length, 0);
  if (tokens === 0) throw new RangeError("Cannot measure parts: found no calibration text");
  const sums = { attention: zeros(numLayers), mlp: zeros(numLayers), block: zeros(numLayers) };
  for (const ids of chunks) {
    let before = streamAt(model, ids, 0);
    for (let layer = 0; layer < numLayers; layer++) {
      const between = streamAt(model, ids, layer + 1, { mlp: [layer] }),
        after = streamAt(model, ids, layer + 1);
      sums.attention[layer]! += sumCosines(before, between, ids.length);
      sums.mlp[layer]! += sumCosines(between, after, ids.length);
      sums.block[layer]! += sumCosines(before, after, ids.length);
      before = after;
    }
  }
  const [attention, mlp, block] = [sums.attention, sums.mlp, sums.block].map((row) =>
    row.map((x) => 1 - x / tokens)
  );
  return { attention: attention!, mlp: mlp!, block: block! };
}

/** What may be left out: attention alone, MLPs alone, either (from one pool), or whole layers. */
export type PartKind = "attention" | "mlp" | "joint" | "block";

/**
 * The `count` parts of least importance, all at once; of equals the earlier layer's, and its attention first.
 *
 * @throws {RangeError} If there are not so many.
 */
export function chooseParts(importance: PartImportance, kind: PartKind, count: number): DroppedParts {
  const kinds = kind === "joint" ? ["attention", "mlp"] as const : [kind];
  const pool = kinds.flatMap((part) => importance[part].map((value, layer) => ({ part, value, layer })));
  if (!(Number.isInteger(count) && count >= 0 && count <= pool.length)) {
    throw new RangeError(`Cannot leave ${count} parts out: expected an integer from 0 to ${pool.length}`);
  }
  const chosen = pool.toSorted((a, b) => a.value - b.value || a.layer - b.layer).slice(0, count);
  const of = (name: "attention" | "mlp") =>
    chosen.filter(({ part }) => part === name || part === "block").map(({ layer }) => layer).sort((a, b) =>
      a - b
    );
  return { attention: of("attention"), mlp: of("mlp") };
}

/**
 * SLEB: leaves out, `count` times, the layer whose absence beside those gone before costs least on the calibration text.
 *
 * @param barrier Layers at either end that stay.
 * @returns The layers left out, in the order in which they went, and the mean loss after each, nats a token.
 * @throws {RangeError} If there are not so many layers between the barriers.
 */
export function chooseLayersByLoss(
  model: Model,
  chunks: readonly Int32Array<ArrayBuffer>[],
  count: number,
  barrier = 1,
): { readonly layers: readonly number[]; readonly losses: readonly number[] } {
  const { numLayers } = model.config, layers: number[] = [], losses: number[] = [];
  if (count > Math.max(0, numLayers - 2 * barrier)) {
    throw new RangeError(
      `Cannot leave ${count} layers out: expected at most ${Math.max(0, numLayers - 2 * barrier)}`,
    );
  }
  const lossOf = (gone: readonly number[]) => {
    const pruner = createDropped({ numLayers }, { attention: gone, mlp: gone });
    const all = chunks.flatMap((ids) => [...scoreSequence(model, ids, pruner).nll]);
    return all.reduce((sum, loss) => sum + loss, 0) / all.length;
  };
  while (layers.length < count) {
    let best = -1, least = Infinity;
    for (let layer = barrier; layer < numLayers - barrier; layer++) {
      if (layers.includes(layer)) continue;
      const loss = lossOf([...layers, layer]);
      if (loss < least) [best, least] = [layer, loss];
    }
    layers.push(best);
    losses.push(least);
  }
  return { layers, losses };
}

const zeros = (count: number): number[] => Array<number>(count).fill(0);

/** The residual stream that enters a layer, [T, hiddenSize], with some parts left out below it. */
function streamAt(
  model: Model,
  ids: Int32Array<ArrayBuffer>,
  layer: number,
  parts: Partial<DroppedParts> = {},
): Float32Array {
  const sequence = model.start(createDropped(model.config, parts));
  try {
    const stream: Tensor = sequence.residualAt(ids, layer),
      rows = f32Data(model.backend.read(stream)).slice();
    model.backend.free(stream);
    return rows;
  } finally {
    sequence.free();
  }
}

/** Sum over rows of the cosine of two matrices. */
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
