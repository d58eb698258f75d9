/** Inputs of attention in a dense pass over random ids, for methods that find KV heads by them. */
import {
  definePruner,
  type HeadProbe,
  type LayerView,
  type ProbedLayer,
} from "../methods/protocol/pruner.ts";
import { uniform } from "../math/random.ts";
import { f32Data, type Tensor } from "../tensor.ts";
import { createForwardPass } from "./architectures/mod.ts";
import type { LoadedModel } from "./open.ts";
import type { Model } from "./model.ts";

/** Random ids without control tokens, some times in a row, after the model's first token where it has one. */
export function drawIds(
  tokenizer: LoadedModel["tokenizer"],
  { tokens, copies, seed = 0 }: Pick<HeadProbe, "tokens" | "copies"> & { readonly seed?: number },
): Int32Array<ArrayBuffer> {
  const { vocabSize } = tokenizer, ids: number[] = [];
  for (let counter = BigInt(seed) << 32n; ids.length < tokens; counter++) {
    const id = Math.floor(uniform(counter) * vocabSize);
    if (tokenizer.bytes(id).length > 0) ids.push(id);
  }
  return repeatIds(tokenizer, ids, copies);
}

/** Ids some times in a row, after the model's first token where it has one. @returns [tokens] i32. */
export function repeatIds(
  { bosId, addsBos }: LoadedModel["tokenizer"],
  ids: ArrayLike<number>,
  copies: number,
): Int32Array<ArrayBuffer> {
  return Int32Array.from([...addsBos ? [bosId!] : [], ...Array(copies).fill(Array.from(ids)).flat()]);
}

/** Rows turned back to position 0, and their mean, [heads * headDim]. @param turns as of {@linkcode createTurns}, if any */
function meanUnturned(rows: Float32Array, tokens: number, turns: Float64Array | undefined): Float64Array {
  const width = rows.length / tokens, mean = new Float64Array(width);
  for (let t = 0; t < tokens; t++) {
    const row = turned(rows.subarray(t * width, (t + 1) * width), -t, turns);
    row.forEach((x, i) => mean[i]! += x / tokens);
  }
  return mean;
}

/** A row rotated by its position, back where that is negative. */
function turned(
  row: Float32Array | Float64Array,
  position: number,
  turns: Float64Array | undefined,
): Float64Array {
  const out = Float64Array.from(row);
  for (let i = 0; turns !== undefined && i < row.length; i += 2) {
    const angle = position * turns[i % turns.length]!, length = turns[i % turns.length + 1]!;
    const by = position < 0 ? 1 / length : length, cos = Math.cos(angle) * by, sin = Math.sin(angle) * by;
    out[i] = row[i]! * cos - row[i + 1]! * sin;
    out[i + 1] = row[i]! * sin + row[i + 1]! * cos;
  }
  return out;
}

/**
 * Inputs of each layer's attention in one dense pass.
 *
 * @param ids [tokens] i32.
 * @returns Per layer queries [tokens, numHeads, headDim] and keys [tokens, numKvHeads, headDim], f32.
 */
export function probeLayers(model: Model, ids: Int32Array<ArrayBuffer>): ProbedLayer[] {
  const { backend, config: { numLayers, numHeads, numKvHeads, headDim } } = model, { length } = ids;
  const seen = Array.from({ length: numLayers }, () => ({
    queries: new Float32Array(length * numHeads * headDim),
    keys: new Float32Array(length * numKvHeads * headDim),
    count: 0,
  }));
  const decide = ({ layer, count, keys, queries }: LayerView) => {
    const own = seen[layer]!, rows = (tensor: Tensor) => f32Data(backend.read(tensor));
    own.queries.set(rows(queries!), own.count * numHeads * headDim);
    own.keys.set(rows(keys), own.count * numKvHeads * headDim);
    own.count += count;
    return { keep: new Uint8Array(count).fill(1) };
  };
  const sequence = { decide, fork: () => sequence }, layers = [...seen.keys()];
  const running = model.start(
    definePruner({ name: "head probe", layers, needs: ["queries"], start: () => sequence }),
  );
  backend.free(running.feed(ids));
  running.free();
  const { scale } = createForwardPass(model);
  return seen.map(({ queries, keys }, layer) => {
    const rope = model.turnsOf(layer), turns = rope && (backend.read(rope).data as Float64Array).slice();
    const meansAt = (count: number) => {
      const key = meanUnturned(keys, length, turns);
      return {
        query: turned(meanUnturned(queries, length, turns), count - 1, turns),
        keys: Array.from({ length: count }, (_, position) => turned(key, position, turns)),
      };
    };
    return { numHeads, numKvHeads, headDim, scale, queries, keys, meansAt };
  });
}

const found = new WeakMap<Model, Map<HeadProbe, readonly number[]>>();

/** Scores of a model's KV heads by a method's probe, run once; 0 in layers with a sliding window, which do not reach far. */
export function headScores(
  { model, tokenizer }: Pick<LoadedModel, "model" | "tokenizer">,
  probe: HeadProbe,
): readonly number[] {
  const known = found.get(model) ?? new Map<HeadProbe, readonly number[]>(), { config } = model;
  found.set(model, known);
  const scores = known.get(probe) ??
    probe.score(probeLayers(model, drawIds(tokenizer, probe)))
      .map((score, head) =>
        config.layers?.[Math.floor(head / config.numKvHeads)]?.window === undefined ? score : 0
      );
  known.set(probe, scores);
  return scores;
}
