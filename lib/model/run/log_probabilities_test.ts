import { assertAlmostEquals, assertEquals } from "@std/assert";
import { logProbabilities } from "./log_probabilities.ts";

Deno.test("logProbabilities() are those of the softmax, and its likeliest tokens come in order", () => {
  const logits = Float32Array.from({ length: 101 }, (_, i) => (i * 37 % 101) / 9 - 300);
  const total = logits.reduce((sum, logit) => sum + Math.exp(logit + 300), 0),
    { of, top } = logProbabilities(logits);
  for (const id of [0, 7, 100]) {
    assertAlmostEquals(of(id), Math.log(Math.exp(logits[id]! + 300) / total), 1e-12);
  }
  const sorted = [...logits.keys()].sort((a, b) => logits[b]! - logits[a]!);
  for (const count of [0, 1, 5, 101, 200]) {
    assertEquals(top(count).map(({ id }) => id), sorted.slice(0, count));
  }
  assertEquals(top(2)[0]!.logProbability, of(sorted[0]!));
  assertEquals(logProbabilities(Float32Array.of(1, 2, 2, 2)).top(2).map(({ id }) => id), [1, 2]);
});
