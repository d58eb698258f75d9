import { assertEquals } from "@std/assert";
import { blockLength, judgedAt } from "./blocks.ts";

Deno.test("blockLength() begins blocks at 0, at the warm-up and at every multiple of block above it", () => {
  const lengths = (warmup: number, block: number, firsts: number[]) =>
    firsts.map((first) => blockLength({ warmup, block }, first));
  assertEquals(lengths(40, 32, [0, 40, 64, 96]), [40, 24, 32, 32]);
  assertEquals(lengths(40, 32, [39, 41, 63]), [1, 23, 1]); // from the middle of a block
  assertEquals([...lengths(32, 32, [32]), ...lengths(8, 1, [8]), ...lengths(0, 4, [0])], [32, 1, 4]);
});

Deno.test("judgedAt() is the first block start at which a token lies beyond the recent window", () => {
  for (
    const [warmup, block, recent] of [[64, 32, 32], [40, 32, 0], [0, 8, 3], [5, 1, 2], [16, 4, 0]] as const
  ) {
    const starts = [0, warmup, ...Array.from({ length: 400 }, (_, i) => i * block).filter((b) => b > warmup)];
    for (let t = 0; t < 100; t++) {
      assertEquals(judgedAt(t, { warmup, block, recent }), starts.find((b) => t < b - recent), `${t}`);
    }
  }
});
