/** Requirements of a model on every method that ranks the cache again: `contract_test.ts` has those on `METHODS`. */
import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { createPruner, EVICTIONS, type MethodOptions, takesWhole } from "../../methods/mod.ts";
import { mergeValues } from "../../methods/bind/merge_values.ts";
import { f32Data } from "../../tensor.ts";
import { judgedTokens } from "../../filter/blocks.ts";
import { Model } from "../model.ts";
import type { ModelSequence } from "./sequence.ts";
import { CONFIG, ids, weights } from "../small_testing.ts";
import { backend } from "../testing.ts";

const model = new Model({ ...CONFIG, numLayers: 2 }, weights as never, backend);
const COUNT = 104, RATIO = 0.5, plan = { warmup: 8, recent: 6, block: 8, tail: 1, kvRatio: RATIO };
const FEEDS = [Array<number>(COUNT).fill(1), [5, 1, 3, 40, 21, 34]];

const prunerOf = (kvFusion: (typeof EVICTIONS)[number]["name"], more: MethodOptions = {}) =>
  createPruner("token-filtering", model.config, { side: "key", kvFusion, ...plan, ...more }, {
    retrieval: () => [0, 1, 0, 0], // a method that asks keeps one head whole, of the four
  });

/** Feeds tokens in pieces, and returns all results of the sequence. */
function run(sequence: ModelSequence, feeds: readonly number[], tokens = ids(COUNT), from = 0) {
  const rows: number[] = [];
  let at = from;
  for (const count of feeds) rows.push(...f32Data(sequence.feed(tokens.slice(at, at += count))));
  const { kvBytesAllocated: _, ...usage } = sequence.usage();
  return { rows, kvKeep: sequence.kvKeep, usage };
}

for (const { name, ...method } of EVICTIONS) {
  const ratio = "heads" in method ? RATIO * 4 / 3 : RATIO;
  // Each head has rows of its own: masks count those that keep a token.
  const units = "apart" in method ? model.config.numKvHeads : 1;
  const causal = !takesWhole(prunerOf(name));

  Deno.test(`${name}: the budget held${causal ? ", any feed, forks, nothing ahead" : ", a whole sequence alone"}`, () => {
    const pruner = prunerOf(name), whole = run(model.start(pruner), [COUNT]);
    const judged = judgedTokens(COUNT, pruner.spans);
    for (const mask of whole.kvKeep.values()) {
      assertEquals([...mask.slice(0, plan.warmup), ...mask.slice(-plan.recent)].includes(0), false);
      const dropped = mask.reduce((sum, kept) => sum + units - kept, 0) / units,
        share = dropped / (judged - plan.warmup);
      assert(Math.abs(share - ratio) < 0.01, `dropped ${share}`);
    }
    assertEquals(run(model.start(pruner), [COUNT]), whole);
    if (!causal) {
      assertThrows(() => run(model.start(pruner), [COUNT - 1, 1]), RangeError, "one prefill of all tokens");
      return;
    }
    for (const feeds of FEEDS) {
      const { rows, ...rest } = run(model.start(pruner), feeds), { rows: want, ...others } = whole;
      assertEquals(rest, others);
      rows.forEach((x, i) => assertAlmostEquals(x, want[i]!, 1e-3));
    }
    const trunk = model.start(pruner), other = ids(COUNT).map((id, t) => t < 70 ? id : (id + 5) % 131);
    run(trunk, [70]);
    const branch = run(trunk.fork(), [COUNT - 70], other, 70),
      elsewhere = run(model.start(pruner), [COUNT], other);
    assertEquals(branch.kvKeep, elsewhere.kvKeep);
    assertEquals(run(trunk, [COUNT - 70], ids(COUNT), 70).kvKeep, whole.kvKeep);
    const { hiddenSize } = model.config;
    assertEquals(elsewhere.rows.slice(0, 70 * hiddenSize), whole.rows.slice(0, 70 * hiddenSize));
    assert(elsewhere.rows.at(-1) !== whole.rows.at(-1));
  });

  Deno.test(`${name}: a ratio of 0 is the full model, bit for bit; its inverse keeps others`, () => {
    const dense = run(model.start(), [COUNT]),
      none = run(model.start(prunerOf(name, { kvRatio: 0 })), [COUNT]);
    assertEquals([none.rows, none.usage], [dense.rows, dense.usage]);
    const inverse = run(model.start(prunerOf(name, { invert: true })), [COUNT]);
    assert(String([...inverse.kvKeep]) !== String([...run(model.start(prunerOf(name)), [COUNT]).kvKeep]));
  });
}

Deno.test("leverage sees keys before rotary embedding, whatever queries are decided by", () => {
  const both = (keyState: "pre-rope" | "post-rope") => {
    const own = { ...plan, fusion: "mean", kvFusion: "leverage", pruneRatio: 0.3, keyState } as const;
    const pruner = createPruner("token-filtering", model.config, own), sequence = model.start(pruner);
    sequence.feed(ids(COUNT));
    return [sequence.keep.get(0), sequence.kvKeep.get(0)];
  };
  const [before, after] = [both("pre-rope"), both("post-rope")];
  assert(String(before[0]) !== String(after[0]));
  assertEquals(before[1], after[1]);
});

Deno.test("keydiff-merge: later queries see the merged values, and the cache holds them", () => {
  const one = new Model({ ...CONFIG, numLayers: 1 }, weights as never, backend), tokens = ids(30);
  const start = (kvFusion: "keydiff-merge" | "keydiff-cache") => {
    const own = { ...plan, side: "key", kvFusion, warmup: 4, recent: 4, block: 16 } as const;
    return one.start(createPruner("token-filtering", one.config, own));
  };
  const [merging, dropping, dense] = [start("keydiff-merge"), start("keydiff-cache"), one.start()];
  const fed = [merging, dropping, dense].map((sequence) => f32Data(sequence.feed(tokens)));
  assertEquals(merging.kvKeep, dropping.kvKeep);
  const { hiddenSize, headDim, numKvHeads } = one.config, width = headDim * numKvHeads;
  const differs = (t: number) =>
    fed[0]!.subarray(t * hiddenSize, (t + 1) * hiddenSize).some((x, i) => x !== fed[1]![t * hiddenSize + i]);
  assertEquals([15, 16, 29].map(differs), [false, true, true]);
  const rowsOf = (sequence: ModelSequence) => {
    const { keys, values, positions, count } = sequence.exportState().caches[0]!.kept;
    const row = (tensor: typeof keys, i: number) =>
      f32Data(backend.read(tensor)).slice(i * width, (i + 1) * width);
    return Array.from({ length: count }, (_, i) => {
      return { position: positions[i]!, key: row(keys, i), value: row(values, i) };
    });
  };
  const all = rowsOf(dense).filter(({ position }) => position < 16), kept = merging.kvKeep.get(0)!;
  const [stays, goes] = [1, 0].map((keep) => all.filter(({ position }) => kept[position] === keep));
  const merged = mergeValues(goes!, stays!, one.config);
  assert(goes!.length === 4 && merged.size > 0);
  for (const { position, value } of rowsOf(merging)) {
    assertEquals(value, merged.get(position) ?? rowsOf(dense)[position]!.value);
  }
});
