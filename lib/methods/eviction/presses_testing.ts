/** Random tensors with the results of kvpress's presses, from make_presses_golden.py, and the same by this project. */
import { assertEquals } from "@std/assert";
import { hostTensor } from "../../tensor.ts";
import { scoreExpected } from "./expected_attention.ts";
import type { LiveKeys, LiveSignals } from "../protocol/live_keys.ts";
import { createPruner, EVICTIONS, type MethodOptions } from "../mod.ts";

/** Matrices row by row; `attention`: the mean over heads, only the lower triangle. */
export interface PressCase {
  readonly numHeads: number;
  readonly numKvHeads: number;
  readonly keys: readonly number[];
  readonly rawKeys: readonly number[];
  readonly values: readonly number[];
  readonly attention: readonly number[];
  readonly mean: readonly number[];
  readonly covariance: readonly number[];
  readonly presses: { readonly [name: string]: { readonly scores: number[]; readonly kept: number[][] } };
}

/** All cases of a file, of one size. */
export interface Presses {
  readonly T: number;
  readonly headDim: number;
  readonly sinks: number;
  readonly window: number;
  readonly cases: readonly PressCase[];
}

type Method = (typeof EVICTIONS)[number];

/** Methods that kvpress has too: none of them is non-causal; merging is tested separately. */
export const pressesOf = ({ cases }: Presses): Method[] =>
  EVICTIONS.filter(({ name, merges }) => Object.hasOwn(cases[0]!.presses, name) && !merges);

/** The tokens that a press protects, as options of ours. */
const plansOf = ({ sinks, window }: Presses): { readonly [name: string]: MethodOptions } => ({
  streaming: { warmup: sinks },
  tova: { recent: 1 },
  snapkv: { recent: window },
  lagkv: { warmup: sinks, block: window },
  curdkv: { warmup: sinks },
});
const shapeOf = ({ headDim }: Presses, { numHeads, numKvHeads }: PressCase) => ({
  numLayers: 1,
  numHeads,
  numKvHeads,
  headDim,
  hiddenSize: 24,
});
const attentionRow = ({ T }: Presses, { attention }: PressCase, t: number) =>
  Float64Array.from({ length: T }, (_, i) => i > t ? 0 : attention[t * (t + 1) / 2 + i]!);

/** A method's input when the whole text has come, and its memory. */
function liveKeys(all: Presses, method: Method, own: PressCase): LiveKeys {
  const { T, headDim } = all, shape = shapeOf(all, own), width = shape.numKvHeads * headDim;
  const plan = plansOf(all)[method.name] ?? {};
  const keys = Float32Array.from(method.keyState === "pre-rope" ? own.rawKeys : own.keys);
  const values = Float32Array.from(own.values),
    rows = Array.from({ length: T }, (_, t) => attentionRow(all, own, t));
  const row = (rows: Float32Array, t: number) => rows.slice(t * width, (t + 1) * width);
  const tokens = rows.map((_, position) => (
    { position, key: row(keys, position), value: row(values, position) }
  ));
  const memory = new Float64Array(method.memory?.size(shape) ?? 0);
  if (method.name !== "expected-attention") {
    tokens.forEach((token) => method.memory?.absorb(memory, token, shape));
  }
  const { warmup = 0, recent = 0, block = 32 } = plan;
  const read: LiveSignals["read"] = (_, { queries } = {}) => {
    const last = queries === undefined ? T : (queries as { last: number }).last;
    const mean = Float64Array.from(
      { length: T },
      (_, i) => rows.slice(-last).reduce((sum, given) => sum + given[i]! / last, 0),
    );
    return queries === undefined ? mean.map((x) => x * T) : mean;
  };
  const foreseen = (): never => {
    throw new Error("no press is non-causal");
  };
  const textOf = () => "";
  return {
    shape,
    layer: 0,
    at: T,
    tokens,
    textOf,
    memory,
    signals: { read },
    foreseen,
    warmup,
    recent,
    block,
  };
}

/** The tokens that stay when half of all go, by scores, of those that may go. */
export function keptOf(
  { T }: Presses,
  scores: Float64Array,
  { warmup = 0, recent = 0 }: MethodOptions = {},
): number[] {
  const able = [...scores.keys()].filter((t) => t >= warmup && t < T - recent && scores[t]! < Infinity);
  const gone = new Set(able.sort((a, b) => scores[a]! - scores[b]! || a - b).slice(0, T / 2));
  return [...scores.keys()].filter((t) => !gone.has(t));
}

/** Checks that a method scores as its press, and keeps the same half, head by head. */
export function expectScores(all: Presses, method: Method): void {
  const { T, headDim } = all;
  for (const own of all.cases) {
    const live = liveKeys(all, method, own),
      { scores, kept } = own.presses[method.name]!,
      width = headDim * headDim;
    const moments = Array.from({ length: own.numHeads }, (_, head) => ({
      mean: Float64Array.from(own.mean.slice(head * headDim, (head + 1) * headDim)),
      covariance: Float64Array.from(own.covariance.slice(head * width, (head + 1) * width)),
    }));
    const rows = method.name === "expected-attention"
      ? scoreExpected(moments, live.tokens, live.shape)
      : method.score(live);
    // Attention is known as the mean over all heads: there the press's heads are averaged too.
    const each = Array.from({ length: own.numKvHeads }, (_, head) => scores.slice(head * T, (head + 1) * T));
    const wanted = rows.length === each.length ? each : [each[0]!.map((_, t) => {
      return each.reduce((sum, row) => sum + row[t]! / each.length, 0);
    })];
    const plan = plansOf(all)[method.name] ?? {};
    rows.forEach((row, head) => {
      const want = rows.length === each.length
        ? kept[head]!
        : keptOf(all, Float64Array.from(wanted[head]!), plan);
      assertEquals(keptOf(all, row, plan), want, `${own.numKvHeads} heads, head ${head}`);
    });
  }
}

/** Checks that a method drops the same tokens as its press from a cache of one head. */
export function expectCache(all: Presses, method: Method, own: PressCase): void {
  const { T, headDim } = all, { warmup = 0, recent = 0, ...more } = plansOf(all)[method.name] ?? {};
  const half = T / 2 / (T - warmup - recent);
  const options = {
    side: "key",
    kvFusion: method.name,
    kvRatio: half,
    tail: 1,
    warmup,
    recent,
    ...more,
  } as const;
  const { keySide } = createPruner("token-filtering", shapeOf(all, own), options),
    sequence = keySide!.start();
  const rows = (numbers: readonly number[]) => hostTensor("f32", [T, 1, headDim], Float32Array.from(numbers));
  const keys = rows(method.keyState === "pre-rope" ? own.rawKeys : own.keys);
  sequence.decide({ layer: 0, count: T, keys, values: rows(own.values) }, 0);
  for (let t = 0; t < T && keySide!.asks !== undefined; t++) {
    const keys = Int32Array.from({ length: t + 1 }, (_, i) => i);
    const attention = attentionRow(all, own, t).slice(0, t + 1);
    sequence.observe!(0, { positions: Int32Array.of(t), keys, rows: { attention } });
  }
  const gone = new Set(sequence.judge!(0, T).drop);
  const kept = Array.from({ length: T }, (_, t) => t).filter((t) => !gone.has(t));
  assertEquals(kept, own.presses[method.name]!.kept[0]);
  assertEquals(gone.size, T / 2);
}
