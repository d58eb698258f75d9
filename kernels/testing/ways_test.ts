import { assertEquals, assertThrows } from "@std/assert";
import { THREAD_ORDERS } from "../../ffi/cuda/testing.ts";
import { readOrders } from "./ways.ts";

Deno.test("readOrders() gives all orders of threads, or those that are named", () => {
  assertEquals([readOrders(undefined), readOrders("")], [THREAD_ORDERS, THREAD_ORDERS]);
  assertEquals(readOrders("ascending,shuffled"), ["ascending", "shuffled"]);
  assertThrows(
    () => readOrders("ascending,none"),
    RangeError,
    '"ascending,none": expected some of ascending, desc',
  );
});
