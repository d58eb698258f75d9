/** Short forms of the attacks: the long ones are run by hand. */
import { assertEquals } from "@std/assert";
import { IN_SLOW_TIER, unless } from "../../lib/testing.ts";
import { NEEDS_REDIS } from "../commands/queue/queue_testing.ts";
import { attackQueue } from "./attack/queue.ts";
import { attackStore } from "./attack/store.ts";

Deno.test({
  ...unless(
    NEEDS_REDIS || IN_SLOW_TIER,
    "a queue that hangs, is emptied, poisoned and forged comes to the same results",
  ),
  fn: async () => {
    const told: string[] = [];
    await attackQueue(20, (line) => told.push(line));
    assertEquals(told.map((line) => line.match(/^\w+/)![0]), ["hang", "empty", "poison", "forge"]);
  },
});

Deno.test({
  ...unless(IN_SLOW_TIER, "damaged studies are refused in one line, or come to the same results"),
  fn: async () => void await attackStore(12),
});
