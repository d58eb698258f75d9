import { assertEquals } from "@std/assert";
import { countSkips } from "./skip_ratio.ts";

Deno.test("countSkips() counts after the warm-up over all layers", () => {
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

Deno.test("countSkips() counts a skip within the warm-up where the warm-up counts", () => {
  const keep = new Map([[0, Uint8Array.of(1, 0, 1, 0)]]);
  const { achievedRatio, achievedRatioWithWarmup } = countSkips(1, 2, [{ length: 4, keep }]);
  assertEquals([achievedRatio, achievedRatioWithWarmup], [1 / 2, 2 / 4]);
});

Deno.test("countSkips() gives null ratios where no token is decided", () => {
  const keep = new Map([[0, Uint8Array.of(1, 1)]]);
  assertEquals(countSkips(1, 32, [{ length: 2, keep }]), {
    achievedRatio: null,
    achievedRatioWithWarmup: 0,
    skipRatioPerLayer: [null],
  });
});

Deno.test("countSkips() never counts the first token as decided", () => {
  const keep = new Map([[0, Uint8Array.of(1, 0, 0)]]);
  assertEquals(countSkips(1, 0, [{ length: 3, keep }]).achievedRatio, 1);
});
