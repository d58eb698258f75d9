import { assert, assertEquals, assertThrows } from "@std/assert";
import { createPruner, createReplay } from "../methods/mod.ts";
import { loadModel } from "../model/load.ts";
import { ReferenceBackend } from "../reference/mod.ts";
import { scoreSequence } from "../eval/sequence_score.ts";
import { createDecisionTable, DecisionRecorder, replayTable } from "./trace.ts";

const { model, config } = await loadModel("tiny", new ReferenceBackend());
const sequence = (count: number, step: number) =>
  Int32Array.from({ length: count }, (_, i) => 300 + (i * step + i * i) % 900);

Deno.test("a recorded run is replayed bit for bit, blocks included", () => {
  const recorder = new DecisionRecorder();
  const options = { fusion: "learned", warmup: 8, block: 8, tail: 0.2, pruneRatio: 0.1 } as const;
  const pruner = createPruner("token-filtering", config, options, { trace: recorder.trace });
  const texts = [sequence(50, 37), sequence(40, 11)];
  const runs = texts.map((ids, chunk) => {
    const run = model.start(pruner, { chunk });
    return { ids, hidden: run.feed(ids), keep: run.keep };
  });
  const table = recorder.table(texts);
  assertEquals(table.rows, 2 * 90);
  assertEquals([...table.token.subarray(0, 90)], Array.from({ length: 90 }, (_, i) => i));
  assertEquals([...table.layer.subarray(88, 92)], [8, 8, 9, 9]);
  assertEquals([table.chunk[49], table.chunk[50], table.position[50]], [0, 1, 0]);
  const replayed = replayTable(table);
  assertEquals(replayed.length, 2);
  replayed.forEach(({ ids, keep, cuts }, i) => {
    assertEquals([ids, keep], [texts[i], runs[i]!.keep]);
    assertEquals(cuts.get(9)!.slice(0, 3), [8, 16, 24]);
    const again = model.start(createReplay(config, { keep, cuts, warmup: 8, recent: 16 }, {}));
    assertEquals(again.feed(ids), runs[i]!.hidden);
    assert(again.keep.get(9)!.includes(0));
  });
});

for (const kvFusion of ["variance", "received"] as const) {
  Deno.test(`a recorded run of both sides is replayed bit for bit, ${kvFusion} on keys`, () => {
    const recorder = new DecisionRecorder(), { trace, keyTrace } = recorder;
    const sizes = { warmup: 8, block: 8, recent: 4, tail: 0.1, kvTail: 0.2, pruneRatio: 0.05, kvRatio: 0.1 };
    const pruner = createPruner("token-filtering", config, { fusion: "key", kvFusion, ...sizes }, {
      trace,
      keyTrace,
    });
    const ids = sequence(45, 37),
      run = model.start(pruner),
      hidden = run.feed(ids),
      table = recorder.table([ids]);
    assertEquals([table.rows, table.side.indexOf(1)], [3 * 45, 45]); // layer 9, and the keys of 8 and 9
    const [{ keep, cuts, kvKeep }] = replayTable(table) as [ReturnType<typeof replayTable>[0]];
    assertEquals(keep, run.keep);
    // Decisions on keys that are still cached are in the trace, and does not go in the replay either.
    for (const [layer, mask] of run.kvKeep) {
      assertEquals([...kvKeep.get(layer)!.slice(0, 36)], [...mask.slice(0, 36)]);
    }
    const replay = createReplay(config, {
      ...{
        keep,
        cuts,
        kvKeep,
        warmup: 8,
        recent: 4,
        block: 8,
        keysAt: kvFusion === "received" ? "block" : "arrival",
      },
    });
    for (const again of [model.start(replay), model.start(replay).fork()]) {
      assertEquals(again.feed(ids), hidden);
      assertEquals([again.keep, again.kvKeep], [run.keep, run.kvKeep]);
    }
    assert([...run.kvKeep.values()].every((mask) => mask.includes(0)));
    if (kvFusion === "variance") {
      const error = "Cannot replay layer 8: found 45 decisions on keys, expected at least 46";
      assertThrows(() => model.start(replay).feed(sequence(46, 37)), RangeError, error);
    }
  });
}

Deno.test("a replay is cut in decode as in a prefill", () => {
  const ids = sequence(30, 7), keep = new Map([[9, Uint8Array.from(ids, (_, i) => i % 3 === 2 ? 0 : 1)]]);
  const pruner = createReplay(config, { keep, cuts: new Map([[9, [10, 20]]]) }, {});
  const whole = scoreSequence(model, ids, pruner), pieces = scoreSequence(model, ids, pruner, { chunk: 7 });
  assertEquals([whole.keep, pieces.keep], [[keep.get(9)], [keep.get(9)]]);
});

Deno.test("replayTable() cuts where the step changes, after the first token too", () => {
  const table = createDecisionTable(4);
  table.position.set([0, 1, 2, 3]);
  table.step.set([0, 1, 1, 2]);
  assertEquals([...replayTable(table)[0]!.cuts], [[0, [1, 3]]]);
});

Deno.test("replayTable() and DecisionRecorder.table() refuse rows that do not fit", () => {
  const table = createDecisionTable(4);
  table.position.set([0, 1, 0, 1]);
  table.layer.set([1, 1, 2, 2]);
  assertEquals(replayTable(table)[0]!.keep.size, 2);
  table.id[3] = 5;
  assertThrows(() => replayTable(table), RangeError, "other tokens in layer 2");
  table.position[3] = 2;
  assertThrows(() => replayTable(table), RangeError, "found position 2 in layer 2 of sequence 0, expected 1");
  assertThrows(() => replayTable(createDecisionTable(0)), RangeError, "found no decision");
  const late = createDecisionTable(1);
  late.chunk[0] = 1;
  assertThrows(() => replayTable(late), RangeError, "Cannot replay sequence 0: found no decision");

  const recorder = new DecisionRecorder();
  const pruner = createPruner("token-filtering", config, {}, { trace: recorder.trace });
  model.start(pruner).feed(sequence(5, 3));
  assertThrows(
    () => recorder.table([sequence(6, 3)]),
    RangeError,
    "found 5 decisions on sequence 0, expected 6",
  );
});
