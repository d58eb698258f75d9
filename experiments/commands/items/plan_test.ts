import { assertEquals, assertThrows } from "@std/assert";
import { UsageError } from "../../../lib/errors.ts";
import { reachOf } from "../../../lib/eval/mod.ts";
import { createDense } from "../../../lib/methods/mod.ts";
import { bindMethod, expectReach, type PlannedTask, refuseUnreached } from "./plan.ts";

/** A task of one item with a number of tokens, of which the last one is scored. */
const planned = (tokens: number, item: object = {}) =>
  ({
    task: { name: "a_task" },
    encoded: [{ item, requests: [{ context: Array(tokens).fill(1), continuation: [1] }] }],
  }) as unknown as PlannedTask;

/** A model of one layer. */
const ONE = { numLayers: 1 };

Deno.test("a method is refused beforehand where no item is long enough for it to reach a scored position", () => {
  const spans = (warmup: number, recent = 0, block = 32) => ({ warmup, recent, block });
  for (
    const [layers, own, hasKeys] of [
      [[0], spans(8), false],
      [[0], spans(0), false],
      [[], spans(8, 32, 32), true],
      [[], spans(8, 4, 4), true],
      [[], spans(1, 9, 32), true],
      [[], spans(0, 0, 1), true],
      [[0], spans(16, 32, 32), true],
    ] as const
  ) {
    const keySide = hasKeys ? { layers: [0] } : undefined, { warmup } = own;
    const pruner = { ...createDense(), layers, spans: own, keySide: keySide as never };
    for (let tokens = 2; tokens < 120; tokens++) {
      // As much as can be filtered: everything from the warm-up on.
      const from = (start: number) => Uint8Array.from({ length: tokens }, (_, t) => Number(t < start));
      const masks = {
        keep: new Map(layers.map((layer) => [layer, from(Math.max(warmup, 1))])),
        kvKeep: new Map(keySide?.layers.map((layer) => [layer, from(warmup)])),
      };
      const { missedKeys, ownFiltered } = reachOf(ONE, pruner, masks, tokens - 1, tokens);
      const expect = () => expectReach(planned(tokens), () => pruner, ONE, "keys");
      if (missedKeys + ownFiltered > 0) expect();
      else {
        const { message } = assertThrows(expect, UsageError, "Cannot call a_task with keys filtered: ");
        assertEquals(message.includes(`sequences of up to ${tokens} tokens`), true, message);
      }
    }
  }
});

Deno.test("what can be reached depends on the model's windows, on texts that are made, and on what is altered", () => {
  const side = { layers: [0] } as never, dense = createDense(), long = planned(200);
  const keys = { ...dense, spans: { warmup: 0, recent: 16, block: 1 }, keySide: side };
  const within = (window: number) => ({ numLayers: 1, layers: [{ window }] }) as never;
  // A key is evicted at an age of 17 tokens. A window of 17 tokens, the query's own included, never contained it then.
  assertThrows(() => expectReach(long, () => keys, within(17)), UsageError, "Cannot call a_task filtered: ");
  expectReach(long, () => keys, within(18));
  const late = { ...dense, layers: [0], spans: { ...dense.spans, warmup: 20 } };
  assertThrows(() => expectReach(planned(20), () => late, ONE), UsageError, "sequences of up to 20 tokens");
  assertThrows(() => expectReach(planned(20, { sought: { maxTokens: 1 } }), () => late, ONE), UsageError);
  expectReach(planned(20, { sought: { maxTokens: 2 } }), () => late, ONE);
  const altered = { ...dense, prepare: { kind: "alter" } as never };
  expectReach(planned(1), () => altered, ONE);
  const adapts = { ...dense, prepare: { kind: "adapt" } as never, spans: { ...dense.spans, warmup: 8 } };
  assertThrows(() => expectReach(planned(8), () => adapts, ONE), UsageError);
  expectReach(planned(9), () => adapts, ONE);
});

Deno.test("a non-causal method is refused beforehand for an item that asks for a text", () => {
  const bind = (item: object) =>
    bindMethod(() => ({ ...createDense(), at: "prefill" }), undefined, planned(9, item).encoded);
  bind({ place: "line 1" });
  assertThrows(
    () => bind({ place: "line 1", sought: { maxTokens: 2 } }),
    UsageError,
    "Cannot score line 1: ",
  );
});

Deno.test("all that a run found to be filtered nowhere is said in one line, with where its scores are", () => {
  const own = { planned: planned(9), prunerFor: () => createDense() },
    kept = { path: "out/study.db", scores: 4 };
  refuseUnreached([], kept, "go on");
  const { message } = assertThrows(
    () => refuseUnreached([{ ...own, method: "key" }, { ...own, method: "paper" }, own], kept, "go on"),
    UsageError,
  );
  assertEquals(
    message,
    "Cannot call a_task with key filtered: the filter reached no scored position of 1 items (sequences of up to " +
      "9 tokens, a warm-up of 0 or more), nor of a_task with paper, a_task; all 4 scores are in out/study.db (go on)",
  );
});
