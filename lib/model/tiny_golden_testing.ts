/** The built-in model against the results of an outside tool; see `testdata/make_tiny_golden.py`. */
import { assert, assertEquals } from "@std/assert";
import { type FeedOptions, scoreSequence } from "../eval/sequence_score.ts";
import { createDense, type LayerView, type Pruner } from "../methods/protocol/pruner.ts";
import type { Tensor } from "../tensor.ts";
import type { Model } from "./model.ts";
import golden from "./testdata/tiny_golden.json" with { type: "json" };

export { golden };

const { states } = golden;
const SAMPLED = Object.keys(states.keys) as (keyof typeof states.keys)[];

/**
 * How far a backend may be from the float64 numbers: vectors relative to the root mean square of their values, logits
 * and losses in nats. Tensors are float32. Farthest were OpenBLAS's products without FMA (level `base`): 3.5e-6,
 * 7.7e-6 and 5.5e-6; all other CPU levels, the reference and the interpreted CUDA library stayed below 1.5e-6, 2.5e-6 and
 * 5e-6.
 */
const VECTOR_BAR = 1e-5, LOGIT_BAR = 1.5e-5, LOSS_BAR = 1.5e-5;

/** Ids of a golden text, the first `count` of them. */
export function goldenIds(text: number, count = Infinity): Int32Array<ArrayBuffer> {
  return Int32Array.from(golden.texts[text]!.ids.slice(0, count));
}

/** A method that keeps all tokens of all layers, and its inputs in each layer. */
function createObserver(model: Model) {
  const seen = Array.from({ length: model.config.numLayers }, () => ({
    residual: [] as number[],
    keys: [] as number[],
    values: [] as number[],
  }));
  const sequence = {
    decide(view: LayerView) {
      for (const name of ["residual", "keys", "values"] as const) {
        const rows = seen[view.layer]!;
        rows[name] = rows[name].concat(read(model, view[name]!));
      }
      return { keep: new Uint8Array(view.count).fill(1) };
    },
    fork: () => sequence,
  };
  const pruner: Pruner = {
    ...createDense(),
    name: "observer",
    layers: [...seen.keys()],
    start: () => sequence,
  };
  return { pruner, seen };
}

function read(model: Model, tensor: Tensor): number[] {
  return Array.from(model.backend.read(tensor).data, Number);
}

function assertNear(got: number, want: number, bar: number, what: string): void {
  assert(Math.abs(got - want) <= bar, `${what}: found ${got}, expected ${want} within ${bar}`);
}

/** Compares rows of `width` values at the golden positions, each in vectors of `size`; how many values they were. */
function assertVectors(
  what: string,
  got: readonly number[],
  want: string,
  width: number,
  size = width,
): number {
  const truth = new Float32Array(Uint8Array.fromBase64(want).buffer);
  let count = 0;
  states.positions.forEach((position, row) => {
    if ((position + 1) * width > got.length) return;
    for (let from = 0; from < width; from += size) {
      const vector = truth.subarray(row * width + from, row * width + from + size);
      const bar = VECTOR_BAR * Math.sqrt(vector.reduce((sum, x) => sum + x * x, 0) / size);
      vector.forEach((x, i) => {
        const where = `${what}, position ${position}, value ${from + i}`;
        assertNear(got[position * width + from + i]!, x, bar, where);
        count++;
      });
    }
  });
  return count;
}

/** Compares one row of logits with the golden ones of a position: the highest, and mean and mean square of all. */
export function assertGoldenLogits(logits: readonly number[], position: number): void {
  const row = states.positions.indexOf(position), mean = (sum: number) => sum / logits.length;
  assert(row >= 0);
  states.topIds[row]!.forEach((id, i) =>
    assertNear(logits[id]!, states.topLogits[row]![i]!, LOGIT_BAR, `logit of ${id}, position ${position}`)
  );
  const sum = logits.reduce((a, b) => a + b, 0), squares = logits.reduce((a, b) => a + b * b, 0);
  assertNear(mean(sum), mean(states.logitSums[row]!), LOGIT_BAR, `mean logit, position ${position}`);
  const root = (sum: number) => Math.sqrt(mean(sum));
  assertNear(
    root(squares),
    root(states.logitSquares[row]!),
    LOGIT_BAR,
    `size of logits, position ${position}`,
  );
}

/**
 * Feeds the text whose states are known, its first `tokens`, `chunk` at a time, and compares residual streams, keys,
 * values, hidden states and logits.
 */
export function assertGoldenStates(
  model: Model,
  { tokens = Infinity, chunk = Infinity }: { readonly tokens?: number; readonly chunk?: number } = {},
): void {
  const { hiddenSize, headDim, numKvHeads, numLayers, vocabSize } = model.config;
  const ids = goldenIds(states.text, tokens), positions = states.positions.filter((at) => at < ids.length);
  const { pruner, seen } = createObserver(model);
  const sequence = model.start(pruner);
  let hidden: number[] = [];
  for (let at = 0; at < ids.length; at += chunk) {
    const part = sequence.feed(ids.slice(at, at + chunk));
    hidden = hidden.concat(read(model, part));
    const logits = read(model, model.logits(part));
    for (const position of positions) {
      if (position < at || position >= at + chunk) continue;
      assertGoldenLogits(
        logits.slice((position - at) * vocabSize, (position - at + 1) * vocabSize),
        position,
      );
    }
  }
  let count = 0;
  for (const layer of SAMPLED) {
    const { keys, values } = seen[Number(layer)]!, width = numKvHeads * headDim;
    count += assertVectors(`keys of layer ${layer}`, keys, states.keys[layer], width, headDim);
    count += assertVectors(`values of layer ${layer}`, values, states.values[layer], width, headDim);
  }
  seen.forEach(({ residual }, layer) =>
    count += assertVectors(`input of layer ${layer}`, residual, states.residual[layer]!, hiddenSize)
  );
  count += assertVectors("hidden states", hidden, states.hidden, hiddenSize);
  const values = 2 * SAMPLED.length * numKvHeads * headDim + (numLayers + 1) * hiddenSize;
  assertEquals(count, positions.length * values);
}

/** Compares the losses of a text's first tokens. */
export function assertGoldenLosses(
  model: Model,
  text: number,
  { tokens = Infinity, ...feed }: FeedOptions & { readonly tokens?: number } = {},
): void {
  const { nll } = scoreSequence(model, goldenIds(text, tokens), undefined, feed);
  const want = golden.texts[text]!.nll;
  assertEquals(nll.length, Math.min(want.length, tokens - 1));
  nll.forEach((loss, i) => assertNear(loss, want[i]!, LOSS_BAR, `text ${text}, loss of token ${i + 1}`));
}
