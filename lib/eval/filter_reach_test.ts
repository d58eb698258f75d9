import { assertEquals } from "@std/assert";
import { reachOf } from "./filter_reach.ts";

const mask = (text: string) => Uint8Array.from(text, Number);
const shape = { numLayers: 3 };
const plain: Parameters<typeof reachOf>[1] = {
  spans: { warmup: 4, block: 4, recent: 0 },
  skipped: { cached: false },
};
const seenFor = (recent: number) => ({ ...plain, spans: { ...plain.spans, recent } });

Deno.test("a dense run reaches nothing", () => {
  const reach = reachOf(shape, plain, { keep: new Map() }, 3, 8);
  assertEquals(reach, { positions: 5, missedKeys: 0, ownFiltered: 0, ownSkips: 0 });
});

Deno.test("a skipped token is missed by queries of its layer beyond the recent window, and has no attention itself", () => {
  // Layer 1 skips token 2; layer 2 skips 4 and 5, which then see nothing there.
  const keep = new Map([[1, mask("11011111")], [2, mask("11110011")]]);
  const counts = (pruner: typeof plain, from = 3, to = 8) =>
    Object.values(reachOf(shape, pruner, { keep }, from, to));
  assertEquals(counts(plain), [5, 5, 2, 2]);
  assertEquals(counts(seenFor(4)), [5, 1, 2, 2]); // only query 7 is more than 4 behind token 2
  assertEquals(counts(seenFor(5)), [5, 0, 2, 2]);
  assertEquals(counts({ ...plain, skipped: { cached: true } }), [5, 0, 2, 2]);
  assertEquals(counts(plain, 0, 3), [3, 0, 1, 1]);
  const both = new Map([[0, mask("1111111011")], [1, mask("1111111011")]]);
  assertEquals(Object.values(reachOf(shape, plain, { keep: both }, 7, 8)), [1, 0, 1, 2]);
});

Deno.test("a dropped key is missed from the block at whose start it was decided", () => {
  const own = { ...seenFor(1), keySide: { layers: [0] } as never };
  const masks = { keep: new Map(), kvKeep: new Map([[0, mask("110111111111")]]) };
  // Token 2 is decided at 4, the first block start b with 2 < b - 1.
  assertEquals(reachOf(shape, own, masks, 0, 12).missedKeys, 8);
  assertEquals(reachOf(shape, own, masks, 3, 4).missedKeys, 0);
  // Skipped tokens stay cached where keys have a rule of their own.
  const keep = new Map([[0, mask("101111111111")]]);
  assertEquals(reachOf(shape, own, { keep }, 4, 12).missedKeys, 0);
});

Deno.test("a key that a layer's window has left behind is not missed", () => {
  const keep = new Map([[0, mask("10111111")]]), layers = [{ window: 3 }, {}, {}];
  assertEquals(reachOf({ ...shape, layers }, plain, { keep }, 2, 8).missedKeys, 2); // queries 2 and 3
});
