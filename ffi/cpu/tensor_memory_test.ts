import { assertEquals, assertNotStrictEquals, assertStrictEquals } from "@std/assert";
import { emptyTensor, f32Data, type HostTensor, hostTensor } from "../../lib/tensor.ts";
import { TensorMemory } from "./tensor_memory.ts";

/** Rows of 1,024 floats, which are kept when they are given back. */
const ROWS = 2 ** 4, WIDTH = 2 ** 10;
const bufferOf = ({ data }: HostTensor) => data.buffer as ArrayBuffer;
const address = ({ data }: HostTensor) =>
  Deno.UnsafePointer.value(Deno.UnsafePointer.of(data as BufferSource));
const isZero = ({ data }: HostTensor) => data.every((x) => x === 0);

Deno.test("regrow() keeps rows, and stays where it is while there is room", () => {
  const memory = new TensorMemory(), first = hostTensor("f32", [2, 3], Float32Array.of(1, 2, 3, 4, 5, 6));
  const grown = memory.regrow(first, 3), { buffer } = grown.data;
  assertEquals([grown.shape, [...grown.data]], [[3, 3], [1, 2, 3, 4, 5, 6, 0, 0, 0]]);
  assertEquals([...first.data], [1, 2, 3, 4, 5, 6], "what was not grown stays as it is");
  f32Data(grown).fill(9);
  const shrunk = memory.regrow(grown, 1), again = memory.regrow(shrunk, 12);
  assertStrictEquals(again.data.buffer, buffer);
  assertEquals([...again.data], [9, 9, 9, ...new Array(33).fill(0)]);
  const moved = memory.regrow(again, 13);
  assertNotStrictEquals(moved.data.buffer, buffer);
  assertEquals([moved.data.length, [...moved.data.subarray(0, 4)], buffer.byteLength], [39, [9, 9, 9, 0], 0]);
});

Deno.test("giveBack() ends little memory, fixed or grown", () => {
  const memory = new TensorMemory(), plain = memory.make("bf16", [2, 2]);
  const grown = memory.regrow(emptyTensor("bf16", [2, 2]), 4);
  assertEquals([grown.dtype, grown.data.constructor, grown.data.length], ["bf16", Uint16Array, 8]);
  for (const tensor of [plain, grown]) memory.giveBack(bufferOf(tensor));
  assertEquals([plain.data.length, grown.data.length], [0, 0]);
  const large = [memory.make("f32", [ROWS, WIDTH]), memory.regrow(emptyTensor("f32", [0, WIDTH]), ROWS)];
  for (const tensor of [...large, ...large]) memory.giveBack(bufferOf(tensor)); // the second time to no effect
  assertEquals(memory.spareBytes, 2 * 4 * ROWS * WIDTH);
});

Deno.test("memory that was given back serves again, zero, and is out of reach of its last tensor", () => {
  const memory = new TensorMemory(), old = memory.make("f32", [ROWS, WIDTH]);
  old.data.fill(7);
  memory.giveBack(bufferOf(old));
  assertEquals(old.data.length, 0);
  const half = memory.make("f32", [ROWS / 2, WIDTH]), again = memory.make("i32", [WIDTH, ROWS]);
  assertEquals([again.data.constructor, isZero(again), isZero(half)], [Int32Array, true, true]);
  const at = address(again);
  memory.giveBack(bufferOf(again));
  const third = memory.make("f32", [ROWS, WIDTH]);
  assertEquals(address(third), at, "no fresh memory is taken");
  third.data.fill(5);
  memory.giveBack(bufferOf(third));
  assertEquals(memory.make("f32", [ROWS, WIDTH], true).data[3], 5, "what is filled later is not cleared");
});

Deno.test("a tensor grows in memory that was given back, which is not cleared", () => {
  const memory = new TensorMemory(), old = memory.regrow(emptyTensor("f32", [0, WIDTH]), ROWS);
  const at = address(old);
  old.data.fill(7);
  memory.giveBack(bufferOf(old));
  assertEquals(old.data.length, 0);
  const rows = hostTensor("f32", [2, WIDTH], new Float32Array(2 * WIDTH).fill(3));
  const grown = memory.regrow(rows, ROWS + 3);
  assertEquals([address(grown), grown.shape], [at, [ROWS + 3, WIDTH]]);
  assertEquals([...grown.data.subarray(2 * WIDTH - 1, 2 * WIDTH + 1)], [3, 7]);
  memory.giveBack(bufferOf(grown));
  const much = memory.regrow(rows, 5 * ROWS);
  assertEquals([address(much) === at, much.data[0]], [false, 3], "there is no room for it");
});

Deno.test("so much memory is kept and no more: the longest unused goes first", () => {
  const memory = new TensorMemory(), MiB = 2 ** 20;
  const large = [...Array(5)].map((_, i) => memory.make("f32", [5 + i % 2, MiB / 2])); // of 10 and of 12 MiB
  for (const tensor of [...large, memory.make("f32", [20, MiB])]) memory.giveBack(bufferOf(tensor));
  assertEquals(memory.spareBytes, (10 + 12 + 10 + 12 + 10) * MiB, "80 MiB are too many by themselves");
  memory.giveBack(bufferOf(memory.make("f32", [4, MiB])));
  assertEquals(
    memory.spareBytes,
    (10 + 10 + 12 + 10 + 16) * MiB,
    "memory of 10 MiB was given back after that of 12",
  );
});
