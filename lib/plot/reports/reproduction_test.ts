import { assertEquals } from "@std/assert";
import { listRows } from "./reproduction.ts";

Deno.test("listRows() gives each result of each protocol, and none of a protocol without results", () => {
  const protocol = { name: "own" }, other = { name: "other" }, results = [{ method: "a" }, { method: "b" }];
  const parts = [
    { protocol, isWhole: true, comparison: { results } },
    { protocol: other, isWhole: false, comparison: {} },
    { protocol: other, isWhole: false, comparison: { results: [{ method: "a" }] } },
  ];
  assertEquals(listRows({ parts: parts as never }), [
    { protocol, isWhole: true, method: "a" },
    { protocol, isWhole: true, method: "b" },
    { protocol: other, isWhole: false, method: "a" },
  ]);
});
