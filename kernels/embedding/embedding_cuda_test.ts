import { assertEquals, assertThrows } from "@std/assert";
import { KernelError } from "../../lib/errors.ts";
import { dequantize } from "../../lib/reference/dequantize.ts";
import { ReferenceBackend } from "../../lib/reference/mod.ts";
import { countOf, f32Data, hostTensor } from "../../lib/tensor.ts";
import { inEveryOrder, openDevice, type TestDevice } from "../testing/device.ts";
import { assertNear, numbers, randomWeight, unwritten } from "../testing/inputs.ts";
import { EMBEDDING_CASES, type EmbeddingCase } from "./cases.ts";

const reference = new ReferenceBackend();

function check(device: TestDevice, c: EmbeddingCase, seed: number): void {
  const next = numbers(seed);
  const table = randomWeight(c.dtype, [c.vocabSize, c.hiddenSize], next);
  const ids = Int32Array.from({ length: c.rows }, () => Math.floor((next() + 1) / 2 * c.vocabSize));
  if (c.rows > 1) ids.set([c.vocabSize - 1, 0]);
  const rows = hostTensor("i32", [c.rows], ids);
  const expected = unwritten([c.rows, c.hiddenSize]);
  reference.embedding(table, rows, expected);
  const all = dequantize(table, 0, countOf(table.shape));
  const out = device.empty(c.rows, c.hiddenSize), tableOn = device.on(table);
  device.backend.embedding(tableOn, device.on(rows), out);
  const what = `${device.order}, ${c.dtype} [${table.shape}]`;
  // As on the CPU: d*q + m may be rounded once or twice, on values of a size where the two nearly cancel.
  const largest = all.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const relative = c.dtype.startsWith("q") ? 2e-7 : 0;
  assertNear(device.values(out), f32Data(expected), relative, what, () => largest);
  assertNear(device.values(device.backend.dequantize(tableOn)), all, relative, what, () => largest);
}

Deno.test("embedding() and dequantize() on CUDA equal the reference on all cases", async () => {
  const device = await openDevice();
  let runs = 0;
  for (const [i, c] of EMBEDDING_CASES.entries()) {
    check(device, c, i + 1);
    runs++;
  }
  assertEquals(runs, (3 * 5 + 5 * 3 + 2 * 2) * 4);
});

Deno.test("embedding() on CUDA does not depend on the order of threads", async () => {
  const cases = EMBEDDING_CASES.filter(({ rows, hiddenSize }) => rows === 33 && hiddenSize >= 96);
  let runs = 0;
  await inEveryOrder((device) => {
    for (const [i, c] of cases.entries()) {
      check(device, c, i + 1);
      runs++;
    }
  });
  assertEquals(runs, 5 * (3 + 5 * 2 + 2 * 2));
});

Deno.test("embedding() on CUDA reports an id outside the table and gives a row of 0 for it", async () => {
  const device = await openDevice();
  const table = device.on(randomWeight("q4_0", [5, 32], numbers(1)));
  for (const id of [-1, 5, 2 ** 31 - 1]) {
    const out = device.empty(3, 32);
    device.backend.embedding(table, device.on(hostTensor("i32", [3], new Int32Array([4, id, 0]))), out);
    assertThrows(() => device.context.synchronize(), KernelError, "found an index outside its table");
    const rows = device.values(out);
    assertEquals([...rows.subarray(32, 64)], Array(32).fill(0));
    assertEquals([...rows].some(Number.isNaN), false);
    device.context.synchronize(); // told once
  }
});

Deno.test("embedding() and dequantize() on CUDA refuse blocks that the device cannot load", async () => {
  const device = await openDevice();
  const bytes = device.on(hostTensor("u8", [1000], new Uint8Array(1000)));
  const table = { ...bytes, dtype: "q4_k" as const, shape: [2, 256], offset: 2 };
  const error = assertThrows(
    () => device.backend.dequantize(table),
    KernelError,
    "divisible by 16 on a device",
  );
  assertEquals(error.code, 4);
  const ids = device.on(hostTensor("i32", [1], new Int32Array(1)));
  assertThrows(
    () => device.backend.embedding(table, ids, device.empty(1, 256)),
    KernelError,
    '"table" misaligned',
  );
  device.backend.dequantize({ ...table, dtype: "q6_k" }); // reads two bytes at a time
});
