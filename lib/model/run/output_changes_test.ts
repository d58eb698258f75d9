/** Outputs of attention without a key: by leaving it out, by the op, and by probabilities. */
import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import type { AttentionArgs, Backend } from "../../backend.ts";
import { createPruner, type MethodOptions } from "../../methods/mod.ts";
import { f32Data, type HostTensor, hostTensor } from "../../tensor.ts";
import type { ModelConfig } from "../config/config.ts";
import { Model } from "../model.ts";
import { headWeights, outputChanges } from "./signals.ts";
import { CONFIG as config, ids, weights } from "../small_testing.ts";
import { backend } from "../testing.ts";

const f32 = (shape: number[], values: (i: number) => number) =>
  hostTensor("f32", shape, Float32Array.from({ length: shape.reduce((a, b) => a * b) }, (_, i) => values(i)));
const i32 = (values: number[]) => hostTensor("i32", [values.length], Int32Array.from(values));
const small = (on: Backend) => new Model(config, weights as never, on);

/** Windows of three queries: none, a full one between two local ones, with a sink. */
const WINDOWS: readonly Partial<AttentionArgs>[] = [{}, { windows: i32([2, -1, 4]), sinks: 3 }];

Deno.test("changes of attention are those of leaving each key out", () => WINDOWS.forEach(checkChanges));

function checkChanges(windows: Partial<AttentionArgs>): void {
  const [heads, kvHeads, dim, count, from] = [4, 2, 3, 7, 2] as const, queryPositions = [3, 6, 9];
  const wave = (seed: number) => (i: number) => 1.5 * Math.sin(seed + 1.7 * i * i);
  const out = f32([3, heads, dim], () => NaN),
    none = hostTensor("f32", [0, kvHeads, dim], new Float32Array(0));
  const ends = Array<number>(count).fill(2 ** 31 - 1);
  ends[3] = 9; // the last query does not see it
  const args: AttentionArgs = {
    queries: f32([3, heads, dim], wave(1)),
    queryPositions: i32(queryPositions),
    keys: f32([count, kvHeads, dim], wave(2)),
    values: f32([count, kvHeads, dim], wave(3)),
    keyPositions: i32([0, 1, 2, 3, 4, 6, 8]),
    numKeys: count,
    keyEnds: i32(ends),
    ...{ recentKeys: none, recentValues: none, recentPositions: i32([]), numRecent: 0, recent: 0 },
    ...{ scale: 0.6, out },
    ...windows,
  };
  const perHead = f32([heads], (head) => 1 + head),
    shares = hostTensor("f64", [3, count - from], new Float64Array(15));
  const changes = hostTensor("f64", [3, count - from], new Float64Array(15).fill(NaN));
  backend.attention({ ...args, shares, changes: { out: changes, headWeights: perHead } });
  const byHost = outputChanges(backend, args, from, f32Data(perHead));
  let seen = 0;
  for (let j = from; j < count; j++) {
    const without = f32([3, heads, dim], () => NaN), gone = [...ends];
    gone[j] = 0;
    backend.attention({ ...args, keyEnds: i32(gone), out: without });
    queryPositions.forEach((_, row) => {
      let want = 0;
      for (let i = 0; i < heads * dim; i++) {
        const at = row * heads * dim + i;
        want += (1 + Math.floor(i / dim)) * (f32Data(out)[at]! - f32Data(without)[at]!) ** 2;
      }
      const at = row * (count - from) + j - from;
      assertAlmostEquals((changes.data as Float64Array)[at]!, want, 1e-5 * (1 + want));
      assertAlmostEquals(byHost[at]!, want, 1e-5 * (1 + want));
      if (want > 0.01) seen++;
    });
  }
  assert(seen > 8 - Object.keys(windows).length, `${seen} changes`);
}

Deno.test("headWeights() are mean squares of the output projection's columns, found once", () => {
  const model = small(backend), { numHeads, headDim, hiddenSize } = config;
  const got = headWeights(model, 1), projection = f32Data(weights.layers[1]!.o as HostTensor);
  f32Data(got as HostTensor).forEach((weight, head) => {
    let sum = 0;
    for (let row = 0; row < hiddenSize; row++) {
      for (let c = 0; c < headDim; c++) {
        sum += projection[row * numHeads * headDim + head * headDim + c]! ** 2;
      }
    }
    assertAlmostEquals(weight, sum / headDim, 1e-5 * sum);
  });
  assert(headWeights(model, 1) === got && headWeights(model, 0) !== got);
});

Deno.test("leave-one-out drops the same keys where the attention op gives no shares, beside local queries and in sliding windows too", () => {
  const without: Backend = Object.assign(Object.create(backend), { givesShares: undefined });
  const plain = { kvFusion: "leave-one-out", warmup: 8, block: 4, recent: 3, kvRatio: 0.5 } as const;
  const sliding = { ...config, layers: weights.layers.map((_, layer) => layer === 0 ? {} : { window: 12 }) };
  const asked: readonly (readonly [MethodOptions, ModelConfig])[] = [
    [{ ...plain, side: "key" }, config],
    [{ ...plain, fusion: "random", pruneRatio: 0.5, substitute: "local" }, config],
    [{ ...plain, side: "key" }, sliding],
  ];
  for (const [options, config] of asked) {
    const [own, host] = [backend, without].map((on) => {
      const model = new Model(config, weights as never, on);
      const sequence = model.start(createPruner("token-filtering", config, options, { backend: on }));
      sequence.feed(ids(70));
      return [...sequence.kvKeep.values()].map((keep) => keep.join(""));
    });
    assertEquals(own, host);
    assert(own!.every((keep) => keep.includes("0")), String(own));
    assert(new Set(own).size > 1, "every layer alike");
  }
});
