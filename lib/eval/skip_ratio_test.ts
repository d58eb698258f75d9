import { assertEquals } from "@std/assert";
import { addCounts, dropRatioOf, skipRatiosOf, tallyDrops, tallySkips } from "./skip_ratio.ts";

const countDrops = (...args: Parameters<typeof tallyDrops>) => dropRatioOf(tallyDrops(...args));
const countSkips = (...args: Parameters<typeof tallySkips>) => skipRatiosOf(tallySkips(...args));

Deno.test("addCounts() adds numbers and lists field by field", () => {
  const all = [{ tokens: 1, perLayer: [1, 2] }, { tokens: 2, perLayer: [3, 4] }, {
    tokens: 4,
    perLayer: [5, 6],
  }];
  assertEquals(addCounts(all), { tokens: 7, perLayer: [9, 12] });
  assertEquals(addCounts(all.slice(0, 1)), all[0]);
});

Deno.test("tallyDrops() counts decided tokens past the warm-up, over all layers", () => {
  const plain = { wantsAttention: false, nonCausal: false };
  const side = { layers: [0, 2], warmup: 2, block: 4, recent: 1, ...plain };
  const mask = (...gone: number[]) => Uint8Array.from({ length: 10 }, (_, t) => gone.includes(t) ? 0 : 1);
  const kvKeep = new Map([[0, mask(2, 3)], [2, mask(6)]]);
  assertEquals(countDrops(4, side, [{ length: 10, kvKeep }]), 3 / (4 * 5)); // 2 to 6, decided at 4 and 8
  assertEquals(countDrops(4, side, [{ length: 8, kvKeep: new Map() }]), 0); // 2, decided at 4
  const heads = new Map([[0, { whole: [1], others: [0, 2, 3] }]]); // of 2 and 3 a quarter stays
  assertEquals(countDrops(4, side, [{ length: 10, kvKeep }], heads), 2.5 / (4 * 5));
  assertEquals(countDrops(4, side, [{ length: 4, kvKeep: new Map() }]), null);
  assertEquals(
    countDrops(1, { ...side, warmup: 0, recent: 0 }, [{ length: 5, kvKeep: new Map([[0, mask(3)]]) }]),
    1 / 3,
  );
});

Deno.test("tallySkips() counts after the warm-up over all layers", () => {
  const a = {
    length: 6,
    keep: new Map([[1, Uint8Array.of(1, 1, 0, 1, 0, 1)], [3, Uint8Array.of(1, 1, 0, 0, 0, 0)]]),
  };
  const b = { length: 4, keep: new Map([[1, Uint8Array.of(1, 1, 1, 1)], [3, Uint8Array.of(1, 1, 1, 0)]]) };
  assertEquals(countSkips(4, 2, [a, b]), {
    achievedRatio: 7 / (4 * 6),
    achievedRatioWithWarmup: 7 / (4 * 10),
    skipRatioPerLayer: [0, 2 / 6, 0, 5 / 6],
  });
});

Deno.test("tallySkips() counts a skip within the warm-up where the warm-up counts", () => {
  const keep = new Map([[0, Uint8Array.of(1, 0, 1, 0)]]);
  const { achievedRatio, achievedRatioWithWarmup } = countSkips(1, 2, [{ length: 4, keep }]);
  assertEquals([achievedRatio, achievedRatioWithWarmup], [1 / 2, 2 / 4]);
});

Deno.test("tallySkips() gives null ratios where no token is decided", () => {
  const keep = new Map([[0, Uint8Array.of(1, 1)]]);
  assertEquals(countSkips(1, 32, [{ length: 2, keep }]), {
    achievedRatio: null,
    achievedRatioWithWarmup: 0,
    skipRatioPerLayer: [null],
  });
});

Deno.test("tallySkips() never counts the first token as decided", () => {
  const keep = new Map([[0, Uint8Array.of(1, 0, 0)]]);
  assertEquals(countSkips(1, 0, [{ length: 3, keep }]).achievedRatio, 1);
});
