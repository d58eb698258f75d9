import { assertEquals, assertThrows } from "@std/assert";
import { THREAD_ORDERS } from "../../ffi/cuda/testing.ts";
import { readOrders } from "./ways.ts";

Deno.test("readOrders() gives two orders of threads, all in the slow tier, or those that are named", () => {
  assertEquals([readOrders(undefined, true), readOrders("", true)], [THREAD_ORDERS, THREAD_ORDERS]);
  assertEquals(readOrders(undefined, false), ["ascending", "descending"]);
  assertEquals(readOrders("ascending,shuffled"), ["ascending", "shuffled"]);
  assertThrows(
    () => readOrders("ascending,none"),
    RangeError,
    '"ascending,none": expected some of ascending, desc',
  );
});
