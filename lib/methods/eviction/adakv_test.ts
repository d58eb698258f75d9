import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import type { AttentionArgs, Backend } from "../../backend.ts";
import { reachOf } from "../../eval/filter_reach.ts";
import { dropRatioOf, tallyDrops, wholeOf } from "../../eval/skip_ratio.ts";
import { Model } from "../../model/model.ts";
import { CONFIG, ids, weights } from "../../model/small_testing.ts";
import { backend as reference } from "../../model/testing.ts";
import { f32Data, hostData, hostTensor, type Tensor } from "../../tensor.ts";
import { createPruner, type MethodOptions } from "../mod.ts";
import { type AdaCases, expectAdaKV } from "./adakv_testing.ts";
import { openTested } from "../../../kernels/testing/ways.ts";

const golden: AdaCases = JSON.parse(
  await Deno.readTextFile(new URL("../../filter/testdata/adakv_golden.json", import.meta.url)),
);
const COUNT = 80;
const OPTIONS = { side: "key", kvFusion: "adakv", kvRatio: 0.5, warmup: 8, recent: 4, block: 8 } as const;
const bind = (more: MethodOptions = {}) =>
  createPruner("token-filtering", CONFIG, { ...OPTIONS, ...more }, { retrieval: () => [0, 5, 1, 0, 4, 4] });
const cpu = await openTested();

Deno.test("adakv drops of each KV head what AdaKVPress with SnapKVPress drops", () => {
  expectAdaKV(golden);
});

Deno.test("adakv leaves a fifth of the equal budget to a head, by a case made by hand", () => {
  const shape = { numLayers: 1, numHeads: 2, numKvHeads: 2, headDim: 2, hiddenSize: 4 };
  const plan = { warmup: 0, recent: 1, block: 4, tail: 1, kvRatio: 10 / 19 };
  const sequence = createPruner("token-filtering", shape, { side: "key", kvFusion: "adakv", ...plan })
    .keySide!.start();
  const rows = hostTensor("f32", [20, 2, 2], new Float32Array(80));
  sequence.decide({ layer: 0, count: 20, keys: rows, values: rows }, 0);
  const given = [(t: number) => 1e-6 * (t + 1), () => 0.05];
  given.forEach((give, unit) => {
    const attention = Float64Array.from({ length: 20 }, (_, t) => give(t));
    const keys = Int32Array.from(attention, (_, t) => t);
    sequence.observe!(0, { positions: Int32Array.of(19), keys, rows: { attention }, unit });
  });
  // The equal budget is 10 of 20 tokens. Head 0 would keep only the last token; a fifth of 10 adds its best one, token 16,
  // with two neighbors on either side. Head 1 evicts the tokens with fewest neighbors.
  const { dropByHead, drop } = sequence.judge!(0, 20);
  assertEquals([dropByHead, drop], [[[...Array(16).keys(), 17, 18], [0, 18]], undefined]);
});

/** Positions that the last query attends to, by layer and KV head: attention is computed for one KV head at a time. */
function watch(pruner = bind()) {
  const seen: number[][] = [], list = (tensor: Tensor) => [...hostData(tensor)];
  const watched: Backend = Object.assign(Object.create(reference), {
    givesShares: true,
    attention(args: AttentionArgs) {
      assertEquals([args.keys.shape[1], args.kvPlaces?.of], [1, CONFIG.numKvHeads]);
      seen.push(list(args.keyPositions).slice(0, args.numKeys));
      reference.attention(args);
    },
  });
  const sequence = new Model(CONFIG, weights, watched).start(pruner);
  for (const token of ids(COUNT)) {
    seen.length = 0;
    sequence.feed(Int32Array.of(token));
  }
  return { seen, sequence };
}

Deno.test("adakv: each KV head has rows of its own, as many as the ratio says in all", () => {
  const { seen, sequence } = watch(), { numLayers, numKvHeads } = CONFIG;
  assertEquals(seen.length, numLayers * numKvHeads);
  const last = COUNT - 1 - (COUNT - 1) % 8, due = 0.5 * (last - 4 - 8);
  const differs = Array.from({ length: numLayers }, (_, layer) => {
    const heads = seen.slice(layer * numKvHeads, (layer + 1) * numKvHeads);
    assertEquals(heads.reduce((sum, rows) => sum + COUNT - rows.length, 0), numKvHeads * due);
    const mask = sequence.kvKeep.get(layer)!;
    mask.forEach((kept, t) => assertEquals(kept, heads.filter((rows) => rows.includes(t)).length));
    return heads[0]!.length !== heads[1]!.length && String(heads[0]) !== String(heads[1]);
  });
  assert(differs.includes(true));
  const { usage, kvKeep } = { usage: sequence.usage(), kvKeep: sequence.kvKeep };
  const rows = seen.reduce((sum, own) => sum + own.length, 0), row = 2 * 4 * CONFIG.headDim;
  assertEquals(usage.kvBytesHeld, rows * row);
  const { heads } = bind().keySide!,
    counts = tallyDrops(numLayers, OPTIONS, [{ length: COUNT, kvKeep }], heads);
  assertAlmostEquals(dropRatioOf(counts)!, 0.5, 0.01);
  assertEquals([wholeOf(bind()), wholeOf(bind({ whole: "heads" })).wholeHeads?.length], [{}, 1]);
  // A key that some heads have lost is filtered.
  const reach = reachOf(CONFIG, bind(), { keep: new Map(), kvKeep }, last, COUNT);
  assertEquals([reach.positions, reach.missedKeys], [COUNT - last, COUNT - last]);
});

Deno.test("adakv: any feed, either backend and a fork give the same, with whole layers or heads too", () => {
  for (const whole of ["none", [1], "heads"] as const) {
    const pruner = bind({ whole, kvRatio: 0.4 });
    const run = (backend: Backend, feeds: readonly number[]) => {
      const sequence = new Model(CONFIG, weights, backend).start(pruner), rows: number[] = [];
      let at = 0;
      for (const count of feeds) {
        rows.push(...f32Data(backend.read(sequence.feed(ids(COUNT).slice(at, at += count)))));
      }
      const { kvBytesAllocated: _, ...usage } = sequence.usage();
      return { rows, kvKeep: sequence.kvKeep, usage };
    };
    const want = run(reference, [COUNT]);
    for (const backend of [reference, cpu]) {
      for (const feeds of [Array<number>(COUNT).fill(1), [5, 1, 3, 40, 31]]) {
        const found = run(backend, feeds);
        assertEquals([found.kvKeep, found.usage], [want.kvKeep, want.usage]);
        found.rows.forEach((x, i) => assertAlmostEquals(x, want.rows[i]!, 2e-3));
      }
    }
    const trunk = new Model(CONFIG, weights, cpu).start(pruner);
    trunk.feed(ids(COUNT).slice(0, 50));
    for (const one of [trunk, trunk.fork()]) {
      const rows = f32Data(cpu.read(one.feed(ids(COUNT).slice(50))));
      rows.forEach((x, i) => assertAlmostEquals(x, want.rows[50 * CONFIG.hiddenSize + i]!, 2e-3));
      assertEquals(one.kvKeep, want.kvKeep);
      one.free();
    }
  }
});
