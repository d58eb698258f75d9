import { assertEquals } from "@std/assert";
import { paretoFront } from "./summary.ts";

Deno.test("paretoFront() keeps what no other beats", () => {
  assertEquals(paretoFront([0.1, 0.3, 0.3, 0.5, 0.2], [40, 50, 45, 70, 60]), [
    true,
    false,
    true,
    true,
    false,
  ]);
});

Deno.test("paretoFront() keeps equals and drops what is not finite", () => {
  assertEquals(paretoFront([0.3, 0.3, NaN, 0.9], [40, 40, 1, Infinity]), [true, true, false, false]);
  assertEquals(paretoFront([], []), []);
  assertEquals(paretoFront([0.1, 0.5, 0.4], [40, 60, 70]), [true, true, false]);
});
