/** KV heads that keep everything next to others of their layer that evict. */
import { assert, assertAlmostEquals, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import type { AttentionArgs, Backend } from "../../backend.ts";
import { DecisionRecorder, replayTable } from "../../heads/mod.ts";
import { createPruner, createReplay, type MethodOptions, type PrunerContext } from "../../methods/mod.ts";
import { f32Data, hostData, type Tensor } from "../../tensor.ts";
import { Model } from "../model.ts";
import { CONFIG, ids, weights } from "../small_testing.ts";
import { backend as reference } from "../testing.ts";
import { batchUnsupportedReason } from "./batch/batch_decoder.ts";
import { openTested } from "../../../kernels/testing/ways.ts";

const COUNT = 80, FEEDS = [[COUNT], Array<number>(COUNT).fill(1), [5, 1, 3, 40, 31]];
/**
 * With 3 layers and 2 KV heads, head 1 of layer 0 and both of layer 2 keep everything; the others drop so much more.
 */
const scores = [0, 5, 1, 0, 4, 4];
const OPTIONS = {
  side: "key",
  fusion: "key",
  kvRatio: 0.4,
  warmup: 8,
  recent: 4,
  block: 8,
  whole: "heads",
} as const;
const bind = (more: MethodOptions = {}, context: PrunerContext = {}) =>
  createPruner("token-filtering", CONFIG, { ...OPTIONS, ...more }, { retrieval: () => scores, ...context });
const cpu = await openTested();
const model = new Model(CONFIG, weights, reference), native = new Model(CONFIG, weights, cpu);

function run(own: Model, feeds: readonly number[], pruner = bind()) {
  const sequence = own.start(pruner), rows: number[] = [];
  let at = 0;
  for (const count of feeds) {
    rows.push(...f32Data(own.backend.read(sequence.feed(ids(COUNT).slice(at, at += count)))));
  }
  return { rows, kvKeep: sequence.kvKeep, usage: sequence.usage() };
}

Deno.test("each kind of heads sees rows of its own: all, or those that were not evicted", () => {
  const seen = new Map<string, number[]>(), list = (tensor: Tensor) => [...hostData(tensor)];
  const watched: Backend = Object.assign(Object.create(reference), {
    attention(args: AttentionArgs) {
      const keys = list(args.keyPositions).slice(0, args.numKeys), ends = args.keyEnds && list(args.keyEnds);
      const [p] = list(args.queryPositions) as [number], heads = args.keys.shape[1]!;
      assertEquals(args.queries.shape[1], CONFIG.numHeads);
      const places = args.kvPlaces && list(args.kvPlaces.places);
      assertEquals([args.kvPlaces?.of ?? heads, places?.length ?? heads], [CONFIG.numKvHeads, heads]);
      const own = keys.filter((key, row) => key <= p && p < (ends?.[row] ?? Infinity));
      seen.set(`${seen.size % 4} ${heads}`, own);
      reference.attention(args);
    },
  });
  const sequence = new Model(CONFIG, weights, watched).start(bind()),
    all = Array.from({ length: COUNT }, (_, t) => t);
  for (const token of ids(COUNT)) {
    seen.clear();
    sequence.feed(Int32Array.of(token));
  }
  const alive = (layer: number) => all.filter((t) => sequence.kvKeep.get(layer)![t] === 1);
  assertEquals([...sequence.kvKeep.keys()], [0, 1]);
  // Layer 0: its whole head, then the other; layer 1: both evict; layer 2: both are whole.
  assertEquals([...seen], [["0 1", all], ["1 1", alive(0)], ["2 2", alive(1)], ["3 2", all]]);
  assert(alive(0).length < COUNT - 20 && alive(1).length < COUNT - 20, `${alive(0).length}`);
});

for (const fusion of ["key", "received", "leave-one-out", "h2o", "lagkv", "keydiff-merge"] as const) {
  Deno.test(`${fusion} with whole heads: any feed, either backend and a fork give the same`, () => {
    const pruner = bind({ fusion: undefined, kvFusion: fusion }), want = run(model, [COUNT], pruner);
    const ofTokens = ({ kvBytesAllocated: _, ...usage }: typeof want.usage) => usage;
    for (const [own, feeds] of FEEDS.flatMap((feeds) => [[model, feeds], [native, feeds]] as const)) {
      const found = run(own, feeds, pruner);
      assertEquals([found.kvKeep, ofTokens(found.usage)], [want.kvKeep, ofTokens(want.usage)]);
      found.rows.forEach((x, i) => assertAlmostEquals(x, want.rows[i]!, 2e-3));
    }
    const trunk = native.start(pruner);
    trunk.feed(ids(COUNT).slice(0, 50));
    const branch = trunk.fork();
    for (const one of [trunk, branch]) {
      const rows = f32Data(cpu.read(one.feed(ids(COUNT).slice(50))));
      rows.forEach((x, i) => assertAlmostEquals(x, want.rows[50 * CONFIG.hiddenSize + i]!, 2e-3));
      assertEquals(one.kvKeep, want.kvKeep);
    }
  });
}

Deno.test("as many rows are held as without whole heads, and the memory of those that went is given back", () => {
  const long = Int32Array.from({ length: 1200 }, (_, t) => (t * 31 + 7) % CONFIG.vocabSize);
  const held = (whole: "none" | "heads") => {
    const sequence = native.start(bind({ whole }));
    cpu.free(sequence.feed(long.slice(0, 200)));
    for (let at = 200; at < 1200; at += 50) cpu.free(sequence.feed(long.slice(at, at + 50)));
    return sequence.usage();
  };
  const [plain, heads] = [held("none"), held("heads")], row = 2 * 4 * CONFIG.numKvHeads * CONFIG.headDim;
  assert(
    Math.abs(heads.kvBytesHeld / plain.kvBytesHeld - 1) < 0.02,
    `${heads.kvBytesHeld}, ${plain.kvBytesHeld}`,
  );
  assertEquals(heads.kvBytesHeld + heads.kvBytesAvoided, 3 * 1200 * row);
  assert(heads.kvBytesAllocated < heads.kvBytesHeld + 3 * 128 * row * 2);
  assertAlmostEquals(heads.pairsAvoided / plain.pairsAvoided, 1, 0.05);
});

for (const kvFusion of ["key", "leave-one-out"] as const) {
  Deno.test(`${kvFusion} with whole heads: a recorded run is replayed to the last digit, and shuffled`, () => {
    const recorder = new DecisionRecorder(), own = { fusion: undefined, kvFusion } as const;
    const pruner = bind(own, { keyTrace: recorder.keyTrace }), want = run(native, [COUNT], pruner);
    const [{ kvKeep }] = replayTable(recorder.table([ids(COUNT)])) as [ReturnType<typeof replayTable>[0]];
    const replay = createReplay(CONFIG, {
      ...{ keep: new Map(), kvKeep, heads: pruner.keySide!.heads!, ...pruner.spans },
      keysAt: kvFusion === "leave-one-out" ? "block" : "arrival",
    });
    assertEquals(run(native, [COUNT], replay), want);
    const shuffled = run(native, [COUNT], bind({ ...own, shuffle: true })),
      dropped = ({ kvKeep }: typeof want) =>
        [...kvKeep].map(([, keep]) => keep.filter((kept) => kept === 0).length);
    assertEquals(dropped(shuffled), dropped(want));
    assertEquals(shuffled.usage.kvBytesHeld, want.usage.kvBytesHeld);
    assertNotEquals(shuffled.kvKeep, want.kvKeep);
  });
}

Deno.test("whole heads are refused without a score for each, and in batches of rules that a device lacks", () => {
  assertThrows(
    () => bind({}, { retrieval: () => [1, 2, 3] }),
    RangeError,
    "with 3 retrieval scores, expected 6",
  );
  assertThrows(() => bind({ whole: "auto" }), RangeError, "with 6 retrieval scores, expected 3");
  assertThrows(
    () => createPruner("token-filtering", CONFIG, OPTIONS),
    RangeError,
    'found "heads" without scores',
  );
  assertEquals(batchUnsupportedReason(bind()), undefined);
  for (const more of [{ kvFusion: "received" }, { side: "both", fusion: "mean", kvFusion: "key" }] as const) {
    assertEquals(batchUnsupportedReason(bind(more)), "keys and values are decided on the host, or traced");
  }
  assertEquals(bind().keySide!.whole, [2]);
});
