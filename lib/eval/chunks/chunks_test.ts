import { assert, assertEquals, assertThrows } from "@std/assert";
import { NOT_ON_WINDOWS, unless } from "../../testing.ts";
import { cutChunks, yieldToEventLoop } from "./chunks.ts";

Deno.test("cutChunks() cuts disjoint chunks and drops the tail", () => {
  const ids = Int32Array.from({ length: 10 }, (_, i) => i + 1);
  assertEquals(cutChunks(ids, 4).map((chunk) => [...chunk]), [[1, 2, 3, 4], [5, 6, 7, 8]]);
  assertEquals(cutChunks(ids, 10).length, 1);
});

Deno.test("cutChunks() copies, so that chunks do not share memory", () => {
  const ids = Int32Array.of(1, 2, 3, 4);
  const [first] = cutChunks(ids, 2);
  first![0] = 9;
  assertEquals(ids[0], 1);
});

Deno.test("cutChunks() refuses a text shorter than the context and a context below 2", () => {
  assertThrows(() => cutChunks(new Int32Array(3), 4), RangeError, "a text of 3 tokens");
  assertThrows(() => cutChunks(new Int32Array(3), 1), RangeError, "at least 2");
  assertThrows(() => cutChunks(new Int32Array(3), 2.5), RangeError, "at least 2");
  assertThrows(() => cutChunks([1, 2, 3] as never, 2), TypeError, 'Cannot use "ids": found Array');
});

Deno.test("callers of yieldToEventLoop() take turns, however many promises each waits for in between", async () => {
  const order: string[] = [];
  const work = async (name: string, promises: number) => {
    for (let turn = 0; turn < 300; turn++) {
      await yieldToEventLoop();
      order.push(name);
      for (let i = 0; i < promises; i++) await undefined;
    }
  };
  await Promise.all([work("a", 0), work("b", 400), work("c", 20)]);
  assertEquals(order.join(""), "abc".repeat(300));
});

Deno.test({
  ...unless(NOT_ON_WINDOWS, "yieldToEventLoop() lets signals and timers run"), // it has no SIGUSR2
  async fn() {
    let signals = 0, timers = 0;
    const count = () => signals++;
    Deno.addSignalListener("SIGUSR2", count);
    try {
      for (let turn = 1; turn <= 100; turn++) {
        setTimeout(() => timers++, 0);
        Deno.kill(Deno.pid, "SIGUSR2");
        for (const begin = performance.now(); signals < turn || timers < turn;) {
          await yieldToEventLoop();
          assert(performance.now() < begin + 5000, `${signals} signals and ${timers} timers of ${turn}`);
        }
      }
    } finally {
      Deno.removeSignalListener("SIGUSR2", count);
    }
  },
});
