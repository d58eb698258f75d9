import { assert, assertEquals } from "@std/assert";
import { chooseExcerpt, chooseSample } from "./tokens.ts";

Deno.test("chooseSample() spreads 6000 rows over a longer stream, and takes a shorter one whole", () => {
  const sample = chooseSample(10_000, 512, 10);
  assert(sample.length > 590 && sample.length <= 600);
  assertEquals([sample[0], sample[1], sample.at(-1)], [8, 25, 9991]);
  assert(sample.every((token, i) => i === 0 || token > sample[i - 1]!));
  assertEquals(chooseSample(6, 3, 10), [1, 2, 4, 5]);
  assertEquals(chooseSample(3, 100, 9000), [1]); // a row per layer, at least
});

Deno.test("chooseExcerpt() begins 8 tokens before the end of the warm-up, and stays in the first sequence", () => {
  const range = (excerpt: number[]) => [excerpt[0], excerpt.length];
  assertEquals(chooseExcerpt(512, 32, 50).slice(0, 3), [24, 25, 26]);
  assertEquals(range(chooseExcerpt(512, 32, 50)), [24, 100]);
  assertEquals(range(chooseExcerpt(512, 4, 2)), [0, 160]);
  assertEquals(range(chooseExcerpt(512, 500, 1000)), [480, 32]);
  assertEquals(range(chooseExcerpt(20, 16, 2)), [0, 20]);
});
