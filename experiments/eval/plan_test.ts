import { assertEquals, assertThrows } from "@std/assert";
import { UsageError } from "../../lib/errors.ts";
import { reachOf } from "../../lib/eval/mod.ts";
import { createDense } from "../../lib/methods/mod.ts";
import { expectReach, type PlannedTask } from "./plan.ts";

/** A task of one item that feeds so many tokens, the last of which is scored. */
const planned = (tokens: number) =>
  ({
    task: { name: "a_task" },
    encoded: [{ requests: [{ context: Array(tokens).fill(1), continuation: [1] }] }],
  }) as unknown as PlannedTask;

Deno.test("a method is refused beforehand where no item is long enough for it to reach a scored position", () => {
  const side = (warmup: number, recent: number, block: number) => ({ layers: [0], warmup, recent, block });
  for (
    const [layers, warmup, keySide] of [
      [[0], 8, undefined],
      [[0], 0, undefined],
      [[], 8, side(8, 32, 32)],
      [[], 8, side(8, 4, 4)],
      [[], 1, side(1, 9, 32)],
      [[], 0, side(0, 0, 1)],
      [[0], 8, side(16, 32, 32)],
    ] as const
  ) {
    const pruner = { ...createDense(), layers, warmup, keySide: keySide as never };
    for (let tokens = 2; tokens < 120; tokens++) {
      // As much as can be filtered: everything from the warm-up on.
      const from = (start: number) => Uint8Array.from({ length: tokens }, (_, t) => Number(t < start));
      const masks = {
        keep: new Map(layers.map((layer) => [layer, from(Math.max(warmup, 1))])),
        kvKeep: new Map(keySide?.layers.map((layer) => [layer, from(keySide.warmup)])),
      };
      const { missedKeys, ownFiltered } = reachOf({ numLayers: 1 }, pruner, masks, tokens - 1, tokens);
      const expect = () => expectReach(planned(tokens), () => pruner, "keys");
      if (missedKeys + ownFiltered > 0) expect();
      else {
        const { message } = assertThrows(expect, UsageError, "Cannot call a_task with keys filtered: ");
        assertEquals(message.includes(`sequences of up to ${tokens} tokens`), true, message);
      }
    }
  }
});
