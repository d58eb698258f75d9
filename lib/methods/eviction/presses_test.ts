/** The key side keeps the same tokens of random tensors as kvpress's presses: score by score, and through the cache. */
import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { createLayerState } from "../../filter/layer.ts";
import { RowToken } from "../../filter/rule.ts";
import { makeSpec } from "../../filter/testing.ts";
import { hostTensor } from "../../tensor.ts";
import { mergeValues } from "../bind/merge_values.ts";
import { createPruner, EVICTIONS, KEY_RULES } from "../mod.ts";
import { expectCache, expectScores, keptOf, type Presses, pressesOf } from "./presses_testing.ts";

const golden: Presses = JSON.parse(
  await Deno.readTextFile(new URL("../../filter/testdata/presses_golden.json", import.meta.url)),
);
const { T, headDim } = golden;

const GOLDEN = Object.keys(golden.cases[0]!.presses);
const PRESSES = pressesOf(golden);

Deno.test("each golden press is that of a method", () => {
  assertEquals(
    GOLDEN.filter((press) => ![...EVICTIONS, ...KEY_RULES].some(({ name }) => name === press)),
    [],
  );
  assert(PRESSES.length >= 9, `${PRESSES.length} presses`);
});

for (const method of PRESSES) {
  Deno.test(`${method.name} scores as its press, and keeps the same half, head by head`, () => {
    expectScores(golden, method);
  });

  if (method.name === "expected-attention") continue; // its moments of queries differ from the press's, see its help
  Deno.test(`${method.name} drops from a cache of one head what its press drops`, () => {
    expectCache(golden, method, golden.cases[0]!);
  });
}

Deno.test("values that go are merged into those of the nearest keys that stay, by a case made by hand", () => {
  const token = (position: number, key: number[], value: number[]) => ({
    ...{ position, key: Float32Array.from(key), value: Float32Array.from(value) },
  });
  const stays = [token(0, [1, 0], [3, 0]), token(1, [0, 1], [0, 1]), token(2, [0, -9], [7, 7])];
  // With cosines 1, 0.8 and less than 0, the weights are 4/7, 0.8/2 and none.
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
  // Attention of queries 4 and 5 counts; that of earlier ones does not.
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
  for (const name of ["cur", "knorm"]) assertEquals(keptOf(golden, score(name)), own.presses[name]!.kept[0]);
  // Only the last token is compared with the mean direction of all keys.
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
      return { position, key: row(keys), value: row(values) };
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
