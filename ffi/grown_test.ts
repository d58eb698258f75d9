import { assertEquals, assertNotStrictEquals, assertStrictEquals } from "@std/assert";
import { emptyTensor, f32Data, hostTensor } from "../lib/tensor.ts";
import { giveBack, regrownRows } from "./grown.ts";

Deno.test("regrownRows() keeps rows, clears new ones, and stays where it is while there is room", () => {
  const first = hostTensor("f32", [2, 3], Float32Array.of(1, 2, 3, 4, 5, 6));
  const grown = regrownRows(first, 3), { buffer } = grown.data;
  assertEquals([grown.shape, [...grown.data]], [[3, 3], [1, 2, 3, 4, 5, 6, 0, 0, 0]]);
  assertEquals([...first.data], [1, 2, 3, 4, 5, 6], "what was not grown stays as it is");
  f32Data(grown).fill(9);
  const shrunk = regrownRows(grown, 1), again = regrownRows(shrunk, 12);
  assertStrictEquals(again.data.buffer, buffer);
  assertEquals([...again.data], [9, 9, 9, ...new Array(33).fill(0)]);
  const moved = regrownRows(again, 13);
  assertNotStrictEquals(moved.data.buffer, buffer);
  assertEquals([moved.data.length, [...moved.data.subarray(0, 4)], buffer.byteLength], [39, [9, 9, 9, 0], 0]);
});

Deno.test("giveBack() ends the memory of a grown tensor alone", () => {
  const plain = emptyTensor("bf16", [2, 2]), grown = regrownRows(emptyTensor("bf16", [2, 2]), 4);
  assertEquals([grown.dtype, grown.data.constructor, grown.data.length], ["bf16", Uint16Array, 8]);
  giveBack(plain);
  giveBack(grown);
  assertEquals([plain.data.length, grown.data.length], [4, 0]);
});
