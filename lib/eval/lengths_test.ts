import { assertEquals, assertThrows } from "@std/assert";
import type { EvaluatedModel } from "./language_model.ts";
import { type MeasuredModel, measureLengths } from "./lengths.ts";
import { expectAllFreed, fakeModel, fakePruner } from "./testing.ts";

const ids = Int32Array.from({ length: 40 }, (_, i) => i % 5);
const half = fakePruner([1], (t) => t % 2 === 0);
const ahead = fakePruner([1], () => false, { at: "prefill" });

Deno.test("measureLengths() has a row a length and method, and counts what the cache holds", () => {
  const { model, calls } = fakeModel();
  const rows = measureLengths(
    model,
    ids,
    [{ name: "dense" }, { name: "half", pruner: half }, { name: "ahead", pruner: ahead }],
    { lengths: [32, 8], turns: 2, decodes: 3 },
  );
  assertEquals(
    rows.map(({ name, tokens, kvBytesHeld, kvBytesDense }) => [name, tokens, kvBytesHeld, kvBytesDense]),
    [
      ["dense", 8, 320, 320],
      ["half", 8, 280, 320],
      ["ahead", 8, 320, 320],
      ["dense", 32, 1280, 1280],
      ["half", 32, 1120, 1280],
      ["ahead", 32, 1280, 1280],
    ],
  );
  assertEquals(rows.map(({ decodeMs }) => decodeMs === null), [false, false, true, false, false, true]);
  // Two lengths, three turns with the one that warms up: a prefill each, and three decodes but for the one that cannot.
  assertEquals(calls.feeds, 2 * 3 * (4 + 4 + 1));
});

Deno.test("measureLengths() reports medians of turns with the least and the most, and how far it is", () => {
  let clock = 0, step = 0;
  // Prefill and one decode a turn, each bounded by two readings: 1st, 3rd, … start, the others add the turn's time.
  const times = [100, 100, 5, 1, 9, 3, 7, 2];
  const now = () => clock += step % 2 === 1 ? times[(step++ - 1) / 2]! : (step++, 0);
  const seen: number[] = [];
  const { model } = fakeModel();
  const [row] = measureLengths(model, ids, [{ name: "dense" }], {
    lengths: [4],
    turns: 3,
    decodes: 1,
    now,
    onProgress: (fraction) => seen.push(fraction),
  });
  assertEquals([row!.prefillMs, row!.decodeMs], [7, 2]);
  assertEquals([row!.prefillRangeMs, row!.decodeRangeMs], [[5, 9], [1, 3]]);
  assertEquals(seen, [1 / 3, 2 / 3, 1]);
});

Deno.test("measureLengths() counts the operations of a prefill without those of the output layer", () => {
  const { model } = fakeModel(), methods = [{ name: "dense" }, { name: "half", pruner: half }];
  const measure = (config: Partial<EvaluatedModel["config"]>) =>
    measureLengths({ ...model, config: { ...model.config, ...config } }, ids, methods, {
      lengths: [32],
      turns: 1,
    })
      .map(({ operations }) => operations);
  // 300 a token, 2 * 2 * 25 of them of the output layer; half of the tokens spare 25.
  assertEquals(measure({ hiddenSize: 2, vocabSize: 25 }), [1, 1 - 16 * 25 / (32 * 200)]);
  assertEquals(measure({}), [undefined, undefined]);
});

Deno.test("measureLengths() decodes a batch together, and counts the bytes of all its sequences", () => {
  const { model, calls } = fakeModel(), steps: number[][] = [];
  const stepTogether: MeasuredModel["stepTogether"] = (feeds) => {
    steps.push(feeds.map(({ ids: [id] }) => id!));
    return model.backend.alloc("f32", [feeds.length, 5]);
  };
  const methods = [{ name: "dense" }, { name: "half", pruner: half }];
  const measure = (batch: number) =>
    measureLengths({ ...model, stepTogether }, ids, methods, { lengths: [8], turns: 1, decodes: 2, batch })
      .map(({ batch, kvBytesHeld, kvBytesDense }) => [batch, kvBytesHeld, kvBytesDense]);
  assertEquals([measure(1), steps], [[[undefined, 320, 320], [undefined, 280, 320]], []]);
  const before = calls.feeds;
  assertEquals(measure(3), [[3, 960, 960], [3, 840, 960]]);
  // A turn that warms up and one that counts, of two methods: the prefills one by one, the steps together.
  assertEquals(calls.feeds - before, 2 * 2 * 3);
  assertEquals(steps, Array.from({ length: 4 }, () => [[3, 3, 3], [4, 4, 4]]).flat());
});

Deno.test("measureLengths() frees every sequence and all that was fed", () =>
  expectAllFreed((model) =>
    [1, 2].map((batch) =>
      measureLengths(model, ids, [{ name: "dense" }, { name: "half", pruner: half }], {
        lengths: [8, 32],
        batch,
      })
    )
  ));

Deno.test("measureLengths() refuses lengths that cannot be", () => {
  const { model } = fakeModel();
  const measure = (lengths: number[], turns = 1) => () => measureLengths(model, ids, [], { lengths, turns });
  assertThrows(measure([33]), RangeError, "Cannot measure 41 tokens: found a text of 40");
  assertThrows(measure([0]), RangeError, '"lengths": found 0, expected an integer of at least 1');
  assertThrows(measure([1], 0.5), RangeError, '"turns": found 0.5');
});
