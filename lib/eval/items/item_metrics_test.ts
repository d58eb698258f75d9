import { assertEquals } from "@std/assert";
import { ACC, ACC_GREEDY, ACC_NORM, FOUND, GREEDY_DISTANCES, ITEM_PERPLEXITY } from "./item_metrics.ts";
import { requestOf } from "./item.ts";

const [first, ...rest] = ["yes", "no", "perhaps not"].map((choice) => requestOf("Is it?", choice));
const item = (gold: number) => ({ requests: [first!, ...rest] as const, gold });

Deno.test("acc takes the likeliest choice, acc_norm the likeliest a character; of equals the first", () => {
  const found = { logLikelihoods: [-6, -5, -11], greedy: [false, true, false] };
  assertEquals([0, 1, 2].map((gold) => ACC.of(item(gold), found)), [0, 1, 0]);
  assertEquals([0, 1, 2].map((gold) => ACC_NORM.of(item(gold), found)), [0, 0, 1]); // -2, -2.5, -1 a character
  assertEquals([0, 1, 2].map((gold) => ACC_GREEDY.of(item(gold), found)), [0, 1, 0]);
  const equal = { ...found, logLikelihoods: [-3, -2, -2] };
  assertEquals([0, 1, 2].map((gold) => ACC.of(item(gold), equal)), [0, 1, 0]);
  assertEquals([ITEM_PERPLEXITY.of(item(2), found), ITEM_PERPLEXITY.fromMean!(0)], [11, 1]);
});

Deno.test("found counts answers that are whole words, in any order and case", () => {
  const sought = { answers: ["apple", "Bank", "v.1", "日本"] };
  const found = (generated: string) =>
    FOUND.of({ ...item(0), sought } as never, { logLikelihoods: [], greedy: [], generated } as never);
  assertEquals(found("1. applebank 2. banks 3. v21, v.12"), 0);
  assertEquals(found(" BANK, 2. apple;"), 0.5);
  assertEquals(found("v.1\n日本."), 0.5);
});

Deno.test("distances in greedy decoding: place by place, and up to the first token that differs", () => {
  const [match, parting] = GREEDY_DISTANCES;
  const cases: [number[], number[], number, number][] = [
    [[1, 2, 3, 4], [1, 2, 3, 4], 1, 4],
    [[1, 2, 3, 4], [1, 9, 3, 4], 0.75, 1],
    [[1, 2], [1, 2, 3, 4], 0.5, 2], // one ends before the other
    [[1, 2, 3], [9], 0, 0],
    [[], [], 1, 0],
  ];
  for (const [dense, ids, share, until] of cases) {
    assertEquals(
      [match!.between(dense, ids), parting!.between(dense, ids)],
      [share, until],
      `${dense}; ${ids}`,
    );
    assertEquals(match!.between(ids, dense), share);
  }
});
