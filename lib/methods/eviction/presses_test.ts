/** What kvpress's presses keep of random tensors is what the key side keeps: score by score, and through the cache. */
import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { createLayerState } from "../../filter/layer.ts";
import { RowToken } from "../../filter/rule.ts";
import { makeSpec } from "../../filter/testing.ts";
import { hostTensor } from "../../tensor.ts";
import { type LiveKeys, mergeValues } from "./live_keys.ts";
import { scoreExpected } from "./expected_attention.ts";
import { createPruner, EVICTIONS, KEY_RULES, type MethodOptions } from "../mod.ts";

/** Matrices row by row; `attention`: the mean over heads, the lower triangle alone. */
interface Case {
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

const golden: { T: number; headDim: number; sinks: number; window: number; cases: Case[] } = JSON.parse(
  await Deno.readTextFile(new URL("../../filter/testdata/presses_golden.json", import.meta.url)),
);
const { T, headDim, sinks, window } = golden;

/** What a press protects, in our words. */
const PLANS: { readonly [name: string]: MethodOptions } = {
  streaming: { warmup: sinks },
  tova: { recent: 1 },
  snapkv: { recent: window },
  lagkv: { warmup: sinks, block: window },
  curdkv: { warmup: sinks },
};
const shapeOf = ({ numHeads, numKvHeads }: Case) => ({
  numLayers: 1,
  numHeads,
  numKvHeads,
  headDim,
  hiddenSize: 24,
});
const attentionRow = ({ attention }: Case, t: number) =>
  Float64Array.from({ length: T }, (_, i) => i > t ? 0 : attention[t * (t + 1) / 2 + i]!);

/** What a method sees when the whole text has come, and its memory. */
function liveKeys(method: (typeof EVICTIONS)[number], own: Case): LiveKeys {
  const shape = shapeOf(own), width = shape.numKvHeads * headDim, plan = PLANS[method.name] ?? {};
  const keys = Float32Array.from(method.keyState === "pre-rope" ? own.rawKeys : own.keys);
  const values = Float32Array.from(own.values),
    rows = Array.from({ length: T }, (_, t) => attentionRow(own, t));
  const row = (all: Float32Array, t: number) => all.slice(t * width, (t + 1) * width);
  const tokens = rows.map((_, position) => ({
    ...{ position, key: row(keys, position), value: row(values, position) },
    received: rows.reduce((sum, given) => sum + given[position]!, 0),
  }));
  const memory = new Float64Array(method.memory?.size(shape) ?? 0);
  if (method.name !== "expected-attention") {
    tokens.forEach((token) => method.memory?.absorb(memory, token, shape));
  }
  const { warmup = 0, recent = 0, block = 32 } = plan;
  const attention = (count: number) =>
    Float64Array.from(
      { length: T },
      (_, i) => rows.slice(-count).reduce((sum, given) => sum + given[i]! / count, 0),
    );
  const foreseen = (): never => {
    throw new Error("no press looks ahead");
  };
  return { shape, at: T, tokens, memory, attention, foreseen, warmup, recent, block };
}

/** The half that stays, by scores, of tokens that may go. */
function keptOf(scores: Float64Array, { warmup = 0, recent = 0 }: MethodOptions): number[] {
  const able = [...scores.keys()].filter((t) => t >= warmup && t < T - recent && scores[t]! < Infinity);
  const gone = new Set(able.sort((a, b) => scores[a]! - scores[b]! || a - b).slice(0, T / 2));
  return [...scores.keys()].filter((t) => !gone.has(t));
}

const GOLDEN = Object.keys(golden.cases[0]!.presses);
/** Methods that kvpress has too: none of them looks ahead; what merges is tested apart. */
const PRESSES = EVICTIONS.filter(({ name, merges }) => GOLDEN.includes(name) && !merges);

Deno.test("each golden press is that of a method", () => {
  assertEquals(
    GOLDEN.filter((press) => ![...EVICTIONS, ...KEY_RULES].some(({ name }) => name === press)),
    [],
  );
  assert(PRESSES.length >= 9, `${PRESSES.length} presses`);
});

for (const method of PRESSES) {
  Deno.test(`${method.name} scores as its press, and keeps the same half, head by head`, () => {
    for (const own of golden.cases) {
      const live = liveKeys(method, own),
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
      const all = Array.from({ length: own.numKvHeads }, (_, head) => scores.slice(head * T, (head + 1) * T));
      const wanted = rows.length === all.length ? all : [all[0]!.map((_, t) => {
        return all.reduce((sum, row) => sum + row[t]! / all.length, 0);
      })];
      const plan = PLANS[method.name] ?? {};
      rows.forEach((row, head) => {
        const want = rows.length === all.length
          ? kept[head]!
          : keptOf(Float64Array.from(wanted[head]!), plan);
        assertEquals(keptOf(row, plan), want, `${own.numKvHeads} heads, head ${head}`);
      });
    }
  });

  if (method.name === "expected-attention") continue; // its moments of queries are not the press's, as its help says
  Deno.test(`${method.name} drops from a cache of one head what its press drops`, () => {
    const own = golden.cases[0]!,
      shape = shapeOf(own),
      { warmup = 0, recent = 0, ...more } = PLANS[method.name] ?? {};
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
    const { keySide } = createPruner("token-filtering", shape, options), sequence = keySide!.start();
    const rows = (numbers: readonly number[]) =>
      hostTensor("f32", [T, 1, headDim], Float32Array.from(numbers));
    const keys = rows(method.keyState === "pre-rope" ? own.rawKeys : own.keys);
    sequence.decide({ layer: 0, count: T, keys, values: rows(own.values) }, 0);
    for (let t = 0; t < T && keySide!.needs.includes("attention"); t++) {
      const attention = attentionRow(own, t).slice(0, t + 1);
      sequence.observe!(0, { positions: Int32Array.of(t), rows: { attention } });
    }
    const gone = new Set(sequence.judge!(0, T).drop);
    const kept = Array.from({ length: T }, (_, t) => t).filter((t) => !gone.has(t));
    assertEquals(kept, own.presses[method.name]!.kept[0]);
    assertEquals(gone.size, T / 2);
  });
}

Deno.test("values that go are merged into those of the nearest keys that stay, by a case made by hand", () => {
  const token = (position: number, key: number[], value: number[]) => ({
    ...{ position, key: Float32Array.from(key), value: Float32Array.from(value), received: 0 },
  });
  const stays = [token(0, [1, 0], [3, 0]), token(1, [0, 1], [0, 1]), token(2, [0, -9], [7, 7])];
  // Of cosines 1, 0.8 and less than 0: weights 4/7, 0.8/2 and none.
  const goes = [token(3, [2, 0], [0, 4]), token(4, [3, 4], [1, 0]), token(5, [-1, 0], [5, 5])];
  const merged = mergeValues(goes, stays, { numKvHeads: 1, headDim: 2 });
  assertEquals([...merged.keys()], [0, 1]);
  const want = [[21 / 11, 16 / 11], [0.4 / 1.4, 1 / 1.4]];
  want.forEach((row, t) => row.forEach((x, i) => assertAlmostEquals(merged.get(t)![i]!, x, 1e-5)));
  assertEquals([...stays[0]!.value], [3, 0]);
  assertEquals(mergeValues([], stays, { numKvHeads: 1, headDim: 2 }).size, 0);
});

Deno.test("foresight drops what the queries to come attend to least", () => {
  const shape = { numLayers: 1, numHeads: 2, numKvHeads: 1, headDim: 2, hiddenSize: 4 };
  const options = {
    side: "key",
    kvFusion: "foresight",
    kvRatio: 0.5,
    tail: 1,
    warmup: 0,
    recent: 0,
    block: 4,
  } as const;
  const sequence = createPruner("token-filtering", shape, options).keySide!.start();
  const rows = hostTensor("f32", [6, 1, 2], new Float32Array(12));
  // What queries 4 and 5 give counts; what earlier ones gave does not.
  const given = [[1], [0, 1], [0, 0, 1], [0, 9, 0, 1], [0.4, 0.1, 0.3, 0.2, 0], [
    0.1,
    0.2,
    0.1,
    0.2,
    0.3,
    0.1,
  ]];
  const futureAttention = Float64Array.from(
    given.flatMap((row) => [...row, ...Array(6 - row.length).fill(0)]),
  );
  sequence.decide({ layer: 0, count: 6, keys: rows, values: rows, futureAttention }, 0);
  assertEquals(sequence.judge!(0, 4).drop, [1, 2]); // 0.5, 0.3, 0.4 and 0.4: the earlier of equals
});

Deno.test("cur, knorm and keydiff rank keys of one head as their presses, where they see as much", () => {
  const own = golden.cases[0]!, spec = makeSpec({ numKvHeads: 1, headDim });
  const rows = (numbers: readonly number[]) => ({ data: Float32Array.from(numbers), width: headDim });
  const score = (name: string) => {
    const rule = KEY_RULES.find((rule) => rule.name === name)!,
      state = createLayerState({ ...spec, rule } as never);
    const scorer = "memory" in rule ? rule.memory!.open(spec, state) : undefined;
    return Float64Array.from({ length: T }, (_, t) => {
      const token = new RowToken(spec, t, { key: rows(own.keys), value: rows(own.values) }, t);
      return -(scorer?.score(token) ?? rule.score!(token, spec as never));
    });
  };
  for (const name of ["cur", "knorm"]) assertEquals(keptOf(score(name), {}), own.presses[name]!.kept[0]);
  // Only the last token is held against the mean direction of all keys.
  const last = own.presses["keydiff-cache"]!.scores[T - 1]!;
  assertAlmostEquals(score("keydiff")[T - 1]!, last, 1e-5);
  assert(Math.abs(score("keydiff")[0]! - last) > 1e-3);
});

Deno.test("what kvpress's MergingPress makes of the values that stay is what they become here", async () => {
  interface Merge {
    readonly kept: number[];
    readonly keys: number[];
    readonly values: number[];
    readonly merged: number[];
  }
  const golden: { numKvHeads: number; headDim: number; cases: Merge[] } = JSON.parse(
    await Deno.readTextFile(new URL("../../filter/testdata/merge_golden.json", import.meta.url)),
  );
  const width = golden.numKvHeads * golden.headDim;
  for (const { kept, keys, values, merged } of golden.cases) {
    const tokens = Array.from({ length: keys.length / width }, (_, position) => {
      const row = (all: number[]) => Float32Array.from(all.slice(position * width, (position + 1) * width));
      return { position, key: row(keys), value: row(values), received: 0 };
    });
    const [stays, goes] = [true, false].map((stay) =>
      tokens.filter(({ position }) => kept.includes(position) === stay)
    );
    const changed = mergeValues(goes!, stays!, golden);
    assert(changed.size > 2 && goes!.length > kept.length);
    stays!.forEach(({ position, value }, i) => {
      const own = changed.get(position) ?? value;
      own.forEach((x, a) => assertAlmostEquals(x, merged[i * width + a]!, 1e-5));
    });
  }
});
