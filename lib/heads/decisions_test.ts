import { assert, assertEquals, assertThrows } from "@std/assert";
import { EVICTIONS, KEY_RULES, METHODS } from "../methods/list.ts";
import { createPruner, createReplay } from "../methods/mod.ts";
import { loadModel } from "../model/load.ts";
import { ReferenceBackend } from "../reference/mod.ts";
import { f32Data } from "../tensor.ts";
import { collectDecisions, type Decisions } from "./decisions.ts";
import { planDecisions, replayDecisions } from "./replay_decisions.ts";
import { DecisionRecorder } from "./trace.ts";

const { model, config } = await loadModel("tiny", new ReferenceBackend());
const { numLayers, numKvHeads, headDim } = config;
const ids = Int32Array.from({ length: 44 }, (_, i) => 300 + (i * 37 + i * i) % 900);
// Scores of heads as numbers: the probe itself takes seconds, and has tests of its own.
const retrieval = () => Array.from({ length: numLayers * numKvHeads }, (_, i) => (i * 7 % 11) / 11);
const spans = { warmup: 8, block: 8, recent: 4 } as const;

function run(options: Parameters<typeof createPruner>[2]) {
  const recorder = new DecisionRecorder(), { trace, keyTrace, rankTrace } = recorder;
  const context = { trace, keyTrace, rankTrace, retrieval };
  const pruner = createPruner("token-filtering", config, options, context);
  const sequence = model.start(pruner);
  const rows = f32Data(model.backend.read(sequence.feed(ids)));
  const { keep, kvKeep, kvEnds } = sequence, usage = sequence.usage();
  sequence.free();
  const table = recorder.decisions(config, pruner, [{ ids, keep, kvEnds }]);
  return { table, pruner, keep, kvKeep, usage, rows, plan: planDecisions(pruner, recorder, 1) };
}

/** Rows of a table whose key and value are held at the end. */
const heldRows = ({ evictedAt }: Decisions) => evictedAt.filter((at) => at < 0).length;

const evicting = [...EVICTIONS, ...KEY_RULES].map(({ name }) => ({ side: "key", kvFusion: name }) as const);
const skipping = METHODS.map(({ name }) => ({ fusion: name }) as const);
for (const method of [...evicting, ...skipping]) {
  const name = "kvFusion" in method ? method.kvFusion : method.fusion;
  Deno.test(`decisions of ${name} give its bytes and masks, and the same run again`, () => {
    const kvTail = name === "duo-attention" || name === "razor-attention" ? 1 : 0.5;
    const amount = "kvFusion" in method ? { kvRatio: 0.4, kvTail } : { pruneRatio: 0.2, tail: 0.5 };
    const { table, usage, keep, kvKeep, rows, plan } = run({ ...spans, ...amount, ...method });
    assertEquals(table.rows, numLayers * numKvHeads * ids.length);
    assertEquals(heldRows(table) * 2 * headDim * 4, usage.kvBytesHeld);
    assert(usage.kvBytesAvoided > 0);
    for (let row = 0; row < table.rows; row++) {
      const layer = table.layer[row]!, t = table.position[row]!;
      assertEquals(table.skipped[row], Number(keep.get(layer)?.[t] === 0));
      const end = table.evictedAt[row]!;
      if (end < 0) continue;
      assert(end > t && t >= spans.warmup && table.decidedAt[row]! >= t && end <= ids.length);
      // The mask has the number of heads that keep a token, where each has rows of its own.
      assert(keep.get(layer)?.[t] === 0 || kvKeep.get(layer)![t]! < (name === "adakv" ? numKvHeads : 1));
    }
    expectReplayed(name, { table, plan, rows, keep, kvKeep, usage });
    const unscored = table.evictedAt.filter((at, row) => at >= 0 && Number.isNaN(table.score[row]));
    // A method may decide without scores; then it has none at all.
    assert(unscored.length === 0 || table.score.every(Number.isNaN));
    if (!EVICTIONS.some((eviction) => eviction.name === name)) return;
    const lowest = Array.from(
      { length: numLayers * numKvHeads },
      (_, i) => scoresOfLast(table, Math.floor(i / numKvHeads), i % numKvHeads),
    );
    for (const [gone, stays] of lowest) assert(gone <= stays);
    assert(lowest.some(([gone]) => gone > -Infinity));
  });
}

/** From the table and the plan as JSON a run gives the same rows to the last digit. */
function expectReplayed(
  name: string,
  { table, plan, rows, keep, kvKeep, usage }: Omit<ReturnType<typeof run>, "pruner">,
): void {
  const replay = () => replayDecisions(config, table, JSON.parse(JSON.stringify(plan)));
  if (name === "keydiff-merge") {
    assertThrows(replay, RangeError, "found a method that merges values");
    return;
  }
  const [{ ids: again, options }] = replay() as [ReturnType<typeof replay>[0]];
  assertEquals(again, ids);
  using sequence = model.start(createReplay(config, options));
  assertEquals(f32Data(model.backend.read(sequence.feed(again))), rows);
  const { kvBytesHeld } = sequence.usage();
  assertEquals([sequence.keep, sequence.kvKeep, kvBytesHeld], [keep, kvKeep, usage.kvBytesHeld]);
}

/** The highest score that a head evicts last, and the lowest that it then keeps, where it does both. */
function scoresOfLast(table: Decisions, layer: number, head: number): readonly [gone: number, stays: number] {
  const last = Math.max(...table.evictedAt);
  const rows = Array.from(table.layer.keys()).filter((row) =>
    table.layer[row] === layer && table.head[row] === head && table.decidedAt[row] === last
  );
  const ofRows = (isGone: boolean) =>
    rows.filter((row) => (table.evictedAt[row] === last) === isGone).map((row) => table.score[row]!);
  return [Math.max(...ofRows(true)), Math.min(...ofRows(false))];
}

Deno.test("heads of adakv have decisions of their own, and retrieval heads keep everything", () => {
  const of = (table: Decisions, layer: number, head: number) =>
    Array.from(table.evictedAt).filter((_, row) => table.layer[row] === layer && table.head[row] === head);
  const { table } = run({ ...spans, side: "key", kvFusion: "adakv", kvRatio: 0.4 });
  assert(
    Array.from({ length: numLayers }, (_, l) => l).some((l) =>
      String(of(table, l, 0)) !== String(of(table, l, 1))
    ),
  );
  const duo = run({ ...spans, side: "key", kvFusion: "duo-attention", kvRatio: 0.4 });
  const [layer, { whole }] = [...duo.pruner.keySide!.heads!].find(([, { whole }]) => whole.length > 0)!;
  assertEquals(new Set(of(duo.table, layer, whole[0]!)), new Set([-1]));
});

Deno.test("decisions of two sequences stand in the order of their chunks", () => {
  const recorder = new DecisionRecorder(), { trace, keyTrace, rankTrace } = recorder;
  const options = { ...spans, side: "key", kvFusion: "random", kvRatio: 0.4 } as const;
  const pruner = createPruner("token-filtering", config, options, { trace, keyTrace, rankTrace });
  const parts = [ids.slice(0, 40), ids.slice(0, 30)].map((own, chunk) => {
    const sequence = model.start(pruner, { chunk });
    sequence.feed(own);
    return { ids: own, keep: sequence.keep, kvEnds: sequence.kvEnds };
  });
  const table = recorder.decisions(config, pruner, parts);
  assertEquals(table.rows, numLayers * numKvHeads * 70);
  const second = numLayers * numKvHeads * 40;
  assertEquals([table.chunk[second - 1], table.chunk[second], table.position[second]], [0, 1, 0]);
  assert(String(table.score.slice(9, 20)) !== String(table.score.slice(second + 9, second + 20)));
});

Deno.test("a dense run has rows and no decisions", () => {
  const table = collectDecisions(config, undefined, [{ ids, keep: new Map(), kvEnds: new Map() }]);
  assertEquals([heldRows(table), new Set(table.decidedAt)], [numLayers * numKvHeads * 44, new Set([-1])]);
});

Deno.test("decisions are not replayed where rows are missing, or evicted where none are decided", () => {
  const { table, plan } = run({ ...spans, side: "key", kvFusion: "key", kvRatio: 0.4 });
  const less = { ...table, rows: table.rows - 1 };
  assertThrows(
    () => replayDecisions(config, less, plan),
    RangeError,
    "sequence 0: found rows of another order",
  );
  assertThrows(() => replayDecisions(config, { ...table, rows: 0 }, plan), RangeError, "found no decision");
  const evictedAt = table.evictedAt.map((at) => at < 0 ? at : at + 1);
  const [first] = replayDecisions(config, { ...table, evictedAt }, plan);
  assertThrows(
    () => createReplay(config, first!.options),
    RangeError,
    "expected a block start after its recent window",
  );
});
