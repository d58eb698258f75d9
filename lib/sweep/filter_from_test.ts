import { assertEquals, assertThrows } from "@std/assert";
import { resolveOptions } from "../methods/mod.ts";
import { CONFIG } from "../model/small_testing.ts";
import { createFilter, readFilterFrom } from "./filter_from.ts";

Deno.test("readFilterFrom() reads tokens and fractions, and refuses the rest", () => {
  assertEquals([readFilterFrom("16").warmup(100), readFilterFrom("25%").warmup(50)], [16, 13]);
  assertEquals(readFilterFrom("0.5%").warmup(1000), 5);
  for (const text of ["x", "101%", "1.5", "-1", ""]) {
    assertThrows(() => readFilterFrom(text), RangeError, `Cannot use --filter-from ${text}: expected tokens`);
  }
});

Deno.test("createFilter() has one method a warm-up", () => {
  const method = resolveOptions({ fusion: "key", warmup: 9 });
  const fixed = createFilter(CONFIG, method, undefined),
    from = createFilter(CONFIG, method, readFilterFrom("50%"));
  if (typeof fixed === "function" || typeof from !== "function") {
    throw new Error("expected one, and one a length");
  }
  assertEquals([fixed.spans.warmup, from(40).spans.warmup, from(20).spans.warmup], [9, 20, 10]);
  assertEquals([from(41) === from(42), from(40) === from(40), from(40) === from(20)], [true, true, false]);
});
