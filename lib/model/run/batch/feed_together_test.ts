import { assertEquals, assertThrows } from "@std/assert";
import { createDropped, createPruner, type Pruner } from "../../../methods/mod.ts";
import { f32Data } from "../../../tensor.ts";
import type { ModelSequence } from "../sequence.ts";
import { CONFIG, filtering, ids, truth } from "../../small_testing.ts";

/** Methods of every kind that asks something of its own of a pass. */
const METHODS: readonly (() => Pruner | undefined)[] = [
  () => undefined,
  () => filtering({ pruneRatio: 0.5, recent: 0 }),
  () => filtering({ fusion: "learned", pruneRatio: 0.4, keyState: "pre-rope" }),
  () => filtering({ pruneRatio: 0.5, substitute: "local", recent: 4 }),
  () => filtering({ pruneRatio: 0.5, schedule: "allocated", cacheSkipped: true }),
  () => filtering({ side: "key", kvFusion: "received", kvRatio: 0.5, recent: 4, warmup: 16, block: 8 }),
  () => filtering({ side: "key", kvFusion: "expected-attention", kvRatio: 0.5, recent: 4, block: 8 }),
  () => createDropped(CONFIG, { attention: [1], mlp: [0, 1], from: 6 }),
  () => createPruner("probe-pruning", CONFIG, { pruneRatio: 0.5, warmup: 8 }),
  () => createPruner("oracle", CONFIG, { pruneRatio: 0.5, warmup: 8 }),
];
const ORACLE = METHODS.length - 1;

/** All that is to be seen of a sequence. */
const seen = (sequence: ModelSequence) => [sequence.keep, sequence.kvKeep, sequence.usage(), sequence.length];

Deno.test("feedTogether() gives each sequence what it gets alone, to the last bit on the reference", () => {
  const texts = METHODS.map((_, i) => ids(41 - 2 * i, i)),
    more = METHODS.map((_, i) => ids(1 + 3 * (i % 4), 9 + i));
  const start = () => METHODS.map((create, i) => truth.start(create(), { chunk: i }));
  const alone = start(), together = start(), width = CONFIG.hiddenSize;
  const feed = (tokens: readonly Int32Array<ArrayBuffer>[], chosen: readonly number[]) => {
    const each = chosen.map((i) => [...f32Data(alone[i]!.feed(tokens[i]!))]);
    const all = f32Data(truth.feedTogether(chosen.map((i) => ({ sequence: together[i]!, ids: tokens[i]! }))));
    let at = 0;
    for (const [k, i] of chosen.entries()) {
      const end = at + tokens[i]!.length * width;
      assertEquals([...all.subarray(at, end)], each[k], `method ${i}`);
      at = end;
    }
    assertEquals(at, all.length);
    assertEquals(together.map(seen), alone.map(seen));
  };
  const every = [...METHODS.keys()];
  feed(texts, every);
  feed(more, every.filter((i) => i !== ORACLE));
  feed(more, [2]);
  const ran = together.map((sequence) => sequence.usage().queriesSkipped);
  assertEquals([1, 2, 3, 4, ORACLE].every((i) => ran[i]! > 0), true);
});

Deno.test("stepTogether() gives each sequence what it gets alone, to the last bit on the reference", () => {
  const start = () => METHODS.slice(0, ORACLE).map((create, i) => truth.start(create(), { chunk: i }));
  const alone = start(), together = start(), width = CONFIG.hiddenSize;
  for (const all of [alone, together]) all.forEach((sequence, i) => sequence.feed(ids(20 - i, i)));
  for (let step = 0; step < 24; step++) {
    const tokens = alone.map((_, i) => ids(1, 100 + 7 * step + i));
    const each = alone.map((sequence, i) => [...f32Data(sequence.feed(tokens[i]!))]);
    const all = f32Data(truth.stepTogether(together.map((sequence, i) => ({ sequence, ids: tokens[i]! }))));
    each.forEach((own, i) =>
      assertEquals([...all.subarray(i * width, (i + 1) * width)], own, `step ${step}, method ${i}`)
    );
  }
  assertEquals(together.map(seen), alone.map(seen));
  assertEquals([1, 2, 3, 4].every((i) => together[i]!.usage().queriesSkipped > 0), true);
  const one = { sequence: together[0]!, ids: ids(1) };
  assertEquals([...f32Data(truth.stepTogether([one]))], [...f32Data(alone[0]!.feed(ids(1)))]);
});

Deno.test("feedTogether() feeds a sequence by itself where somebody looks on", () => {
  const seenBy = { alone: 0, together: 0 };
  const start = (who: keyof typeof seenBy) => truth.start(undefined, { see: () => void seenBy[who]++ });
  const alone = start("alone"), watched = start("together"), plain = truth.start();
  const expected = [...f32Data(alone.feed(ids(9))), ...f32Data(truth.start().feed(ids(5, 1)))];
  const feeds = [{ sequence: watched, ids: ids(9) }, { sequence: plain, ids: ids(5, 1) }];
  assertEquals([...f32Data(truth.feedTogether(feeds))], expected);
  assertEquals([seenBy.together, seenBy.alone > 0], [seenBy.alone, true]);
});

Deno.test("feedTogether() refuses what a sequence refuses, before any is fed", () => {
  const dense = truth.start(), oracle = truth.start(METHODS[ORACLE]!());
  oracle.feed(ids(10));
  const feeds = [dense, oracle].map((sequence) => ({ sequence, ids: ids(3) }));
  assertThrows(() => truth.feedTogether(feeds), RangeError, "a non-causal pruner");
  assertEquals(dense.length, 0);
  const twice = [9, 3].map((count) => ({ sequence: dense, ids: ids(count) }));
  assertThrows(() => truth.feedTogether(twice), RangeError, "found one of them twice");
  assertEquals(dense.length, 0);
  const unknown = [{ sequence: dense, ids: Int32Array.of(CONFIG.vocabSize) }];
  assertThrows(() => truth.feedTogether(unknown), RangeError);
  // A sequence that is fed separately, after another one.
  const alone = truth.start(METHODS[ORACLE - 1]!()), last = truth.start(METHODS[ORACLE - 1]!());
  const behind = [{ sequence: alone, ids: ids(4) }, { sequence: last, ids: Int32Array.of(1, -1) }];
  assertThrows(() => truth.feedTogether(behind), RangeError, "Cannot embed id -1: expected 0 to");
  assertEquals([alone.length, last.length], [0, 0]);
  assertEquals(dense.length, 0);
});
