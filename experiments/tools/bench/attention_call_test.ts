import { assert, assertEquals } from "@std/assert";
import { chooseKept } from "./attention_call.ts";

Deno.test("chooseKept() keeps the first 32 tokens and the last one, and skips the fraction of the others", () => {
  const { kept, skipped } = chooseKept(4000, 0.5, 7);
  assertEquals([...kept, ...skipped].sort((a, b) => a - b), Array.from({ length: 4000 }, (_, t) => t));
  assert([...Array(32).keys(), 3999].every((t) => kept.includes(t)));
  assert(Math.abs(skipped.length / 4000 - 0.5) < 0.03, `${skipped.length} of 4000`);
  assertEquals(chooseKept(50, 0, 7).skipped, []);
});
