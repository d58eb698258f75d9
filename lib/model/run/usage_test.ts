import { assert, assertEquals } from "@std/assert";
import { openSource } from "../checkpoint_golden_testing.ts";
import { hfFolder } from "../testdata/checkpoints.ts";
import { backend, firstLayers, ids, patternPruner } from "../testing.ts";
import { LayerTally } from "./usage.ts";

/** The properties of a method that a tally goes by. */
const rules = (recent: number, cached = false, needs: readonly "queries"[] = []) => ({
  spans: { recent },
  skipped: { cached },
  needs,
});

/** Decisions that are in no simple order. */
const mask = (count: number) =>
  Uint8Array.from({ length: count }, (_, t) => t === 0 || (t * t + 3 * t) % 7 < 4 ? 1 : 0);

Deno.test("LayerTally counts pairs and rows as the definition does, however the decisions come", () => {
  for (const [recent, window] of [[0], [1], [5], [100], [0, 1], [5, 3], [3, 8], [5, 60]]) {
    for (const cacheSkipped of [false, true]) {
      const keep = mask(60);
      const holds = (i: number, j: number) => j <= i && (cacheSkipped || keep[j] === 1 || i - j <= recent!);
      const sees = (i: number, j: number) => holds(i, j) && i - j < (window ?? Infinity);
      let pairs = 0, kept = 0;
      for (let i = 0; i < 60; i++) {
        if (keep[i] === 0) continue;
        kept++;
        for (let j = 0; j <= i; j++) if (sees(i, j)) pairs++;
      }
      let held = 0;
      for (let j = 0; j < 60; j++) if (holds(60, j)) held++; // rows for a next query
      for (const piece of [1, 7, 60]) {
        const tally = new LayerTally(rules(recent!, cacheSkipped), window);
        for (let at = 0; at < 60; at += piece) tally.take(keep.subarray(at, at + piece));
        assertEquals(
          [tally.kept, tally.queried, tally.pairs, tally.heldRows],
          [kept, kept, pairs, held],
          `recent ${recent}, window ${window}, cacheSkipped ${cacheSkipped}, pieces of ${piece}`,
        );
      }
    }
  }
});

Deno.test("LayerTally counts every query where the method reads queries, and branches", () => {
  const tally = new LayerTally(rules(2, false, ["queries"]));
  tally.take(Uint8Array.of(1, 0, 1));
  const copy = tally.clone();
  copy.take(Uint8Array.of(0, 0));
  assertEquals([tally.queried, tally.kept, tally.heldRows], [3, 2, 3]);
  const local = new LayerTally(rules(0), 2);
  local.take(Uint8Array.of(1, 1));
  const branch = local.clone();
  branch.take(Uint8Array.of(1, 1));
  assertEquals([local.pairs, branch.pairs], [3, 7]);
  assertEquals([copy.queried, copy.kept, copy.heldRows], [5, 2, 4]);
  assertEquals(new LayerTally().queried, 0);
});

Deno.test("usage() says what the caches hold, in pieces and token by token", () => {
  const model = firstLayers(2), keep = mask(24);
  for (const options of [{ recent: 0 }, { recent: 4 }, { recent: 4, cacheSkipped: true }]) {
    const usages = [24, 5, 1].map((piece) => {
      const sequence = model.start(patternPruner([1], (t) => keep[t] === 1, options));
      for (let at = 0; at < 24; at += piece) sequence.feed(ids(24).slice(at, at + piece));
      const { kvBytesAllocated, ...usage } = sequence.usage();
      const { caches } = sequence.exportState();
      const rows = caches.map((cache) =>
        cache.allocatedBytes / (8 * model.config.numKvHeads * model.config.headDim)
      );
      assert(
        rows.every((count) => Number.isInteger(count)) && kvBytesAllocated >= usage.kvBytesHeld,
        `${rows}`,
      );
      assertEquals(usage.kvBytesHeld, caches.reduce((sum, cache) => sum + cache.heldBytes, 0));
      assertEquals(kvBytesAllocated, caches.reduce((sum, cache) => sum + cache.allocatedBytes, 0));
      return usage;
    });
    assertEquals([usages[1], usages[2]], [usages[0], usages[0]]);
  }
});

Deno.test("usage() counts what layers with a window see, and what they would see dense", () => {
  const model = openSource(hfFolder("gemma3"), backend), sequence = model.start(); // windows of 8, a full layer 2
  sequence.feed(ids(20).map((id) => id % 48));
  const usage = sequence.usage();
  assertEquals([usage.pairsDense, usage.pairsAvoided], [3 * (36 + 12 * 8) + 210, 0]);
  assertEquals([usage.attentionFlopsAvoided, usage.totalFlopsAvoided], [0, 0]);
  const skipping = model.start(patternPruner([1, 2], (t) => t !== 10));
  skipping.feed(ids(20).map((id) => id % 48));
  // Query 10 is skipped, which attended to 8 and 11 keys; so is key 10 for the 7 or all 9 later tokens that attended to
  // it.
  assertEquals(skipping.usage().pairsAvoided, 8 + 7 + 11 + 9);
});
