import { assertEquals, assertThrows } from "@std/assert";
import { byteSize } from "./dtype.ts";
import {
  countOf,
  emptyTensor,
  expectHostTensor,
  expectTensor,
  f32Data,
  hostData,
  hostTensor,
  resizedRows,
  rowsOf,
  type Tensor,
} from "./tensor.ts";

const x = hostTensor("f32", [3, 2], Float32Array.of(1, 2, 3, 4, 5, 6));

Deno.test("hostTensor() wraps without copying, and wants exactly the bytes of its shape", () => {
  assertEquals([x.shape, countOf(x.shape)], [[3, 2], 6]);
  const data = new Float32Array(6);
  assertEquals(hostTensor("f32", [6], data).data === data, true);
  for (const size of [5, 7]) {
    assertThrows(
      () => hostTensor("f32", [3, 2], new Float32Array(size)),
      RangeError,
      `found ${4 * size} bytes, expected 24`,
    );
  }
  assertEquals(expectHostTensor(x), x);
  const short = { ...x, data: data.slice(1) };
  assertThrows(() => expectHostTensor(short), RangeError, "found 20 bytes, expected 24");
  assertEquals(hostTensor("q8_0", [2, 32], new Uint8Array(68)).shape, [2, 32]);
  assertThrows(() => emptyTensor("q8_0", [33]), RangeError, "a multiple of its block of 32");
});

Deno.test("emptyTensor() gives zeros in the type's own array", () => {
  const arrays = {
    f32: Float32Array,
    f64: Float64Array,
    i32: Int32Array,
    f16: Uint16Array,
    bf16: Uint16Array,
  };
  for (const [dtype, array] of Object.entries(arrays)) {
    assertEquals(emptyTensor(dtype as keyof typeof arrays, [2, 3]).data, new array(6));
  }
  assertEquals(emptyTensor("q4_0", [64]).data, new Uint8Array(36));
});

Deno.test("expectTensor() names what differs; -1 stands for any size", () => {
  expectTensor("x", x, "f32", [3, 2]);
  expectTensor("x", x, ["f16", "f32"], [-1, 2]);
  assertThrows(
    () => expectTensor("x", x, ["f16", "bf16"], [3, 2]),
    TypeError,
    'Cannot use "x": found f32, expected f16 or bf16',
  );
  for (const shape of [[3], [3, 2, 1], [2, 2], [4, -1]]) {
    assertThrows(
      () => expectTensor("x", x, "f32", shape),
      RangeError,
      `found shape [3,2], expected [${shape}]`,
    );
  }
});

Deno.test("byteSize() counts whole blocks", () => {
  assertEquals([byteSize("q8_0", 64), byteSize("f16", 3)], [68, 6]);
  assertThrows(() => byteSize("q8_0", 33), RangeError, "expected a multiple of its block of 32");
});

Deno.test("rowsOf() takes whole blocks of quantised rows", () => {
  const blocks = hostTensor("q8_0", [3, 64], Uint8Array.from({ length: 3 * 68 }, (_, i) => i));
  const { shape, data } = rowsOf(blocks, 1, 3);
  assertEquals([shape, [...data]], [[2, 64], [...blocks.data.subarray(68)]]);
  assertEquals(rowsOf(blocks, 3, 3).data.length, 0);
});

Deno.test("rowsOf() is a view, resizedRows() a copy with zeros behind", () => {
  const view = rowsOf(x, 1, 3);
  assertEquals([view.shape, [...f32Data(view)]], [[2, 2], [3, 4, 5, 6]]);
  assertEquals(view.data.buffer === x.data.buffer, true);
  assertEquals([...f32Data(resizedRows(x, 4))], [1, 2, 3, 4, 5, 6, 0, 0]);
  assertEquals([...f32Data(resizedRows(x, 1))], [1, 2]);
  assertEquals(resizedRows(x, 3).data.buffer === x.data.buffer, false);
});

Deno.test("hostData() and f32Data() refuse what they cannot reach", () => {
  const device: Tensor = { dtype: "f32", shape: [1] };
  assertThrows(() => hostData(device), TypeError, "read it through its backend");
  assertThrows(() => f32Data(emptyTensor("f16", [1])), TypeError, "Cannot use a f16 tensor: expected f32");
});
