import { assertEquals, assertThrows } from "@std/assert";
import { KernelError } from "../../lib/errors.ts";
import { dequantize } from "../../lib/reference/dequantize.ts";
import { ReferenceBackend } from "../../lib/reference/mod.ts";
import { countOf, f32Data, hostTensor } from "../../lib/tensor.ts";
import { assertNear, numbers, randomWeight, unwritten } from "../testing/inputs.ts";
import { cpuWays, testCases, testOnCpu, testOnDevice } from "../testing/ways.ts";
import { WEIGHTS } from "../testing/fuzz/draw.ts";
import { EMBEDDING_CASES } from "./cases.ts";

const reference = new ReferenceBackend();

testCases(
  "embedding() and dequantize() equal the reference on all cases",
  EMBEDDING_CASES,
  [(3 * 5 + 5 * 3 + 2 * 2) * 4 + 6, 3 + 5 * 2 + 2 * 2 + 6],
  ({ dtype, vocabSize, hiddenSize, rows: count }, i) => {
    const next = numbers(i + 1), table = randomWeight(dtype, [vocabSize, hiddenSize], next);
    const ids = Int32Array.from({ length: count }, () => Math.floor((next() + 1) / 2 * vocabSize));
    if (count > 1) ids.set([vocabSize - 1, 0]);
    const rows = hostTensor("i32", [count], ids), expected = unwritten([count, hiddenSize]);
    const scale = i % 2 === 0 ? 1 : Math.sqrt(hiddenSize);
    reference.embedding(table, rows, expected, scale);
    const all = dequantize(table, 0, countOf(table.shape));
    // d*q + m may be rounded once or twice, on values of a size where the two nearly cancel.
    const largest = all.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    const relative = dtype.startsWith("q") ? 2e-7 : 0;
    return ({ name, backend, on, empty, values }) => {
      const out = empty(count, hiddenSize), tableOn = on(table), what = `${name}, ${dtype} [${table.shape}]`;
      backend.embedding(tableOn, on(rows), out, scale);
      assertNear(values(out), f32Data(expected), relative, what, () => scale * largest);
      assertNear(values(backend.dequantize(tableOn)), all, relative, what, () => largest);
    };
  },
  ({ rows, hiddenSize }) => rows === 33 && hiddenSize >= 96,
);

testOnCpu("embedding() refuses an id outside the table", async () => {
  for (const { backend, empty } of await cpuWays()) {
    for (const id of [-1, 5]) {
      const ids = hostTensor("i32", [2], new Int32Array([4, id]));
      const error = assertThrows(
        () => backend.embedding(empty(5, 3), ids, empty(2, 3)),
        KernelError,
        `found ${id} at index 1 of "ids", expected 0 to 4`,
      );
      assertEquals([error.code, error.op], [5, "tkf_embedding_gather"]);
    }
  }
});

testOnDevice("embedding() reports an id outside the table and gives a row of 0 for it", (device) => {
  const { backend, context, on, empty, values } = device, cols = 1280; // several times as many as threads
  for (const dtype of WEIGHTS) {
    const host = randomWeight(dtype, [5, cols], numbers(1)), table = on(host);
    for (const id of dtype === "q4_0" ? [-1, 5, 2 ** 31 - 1] : [5]) {
      const out = empty(3, cols), expected = unwritten([3, cols]);
      backend.embedding(table, on(hostTensor("i32", [3], new Int32Array([4, id, 0]))), out);
      assertThrows(() => context.synchronize(), KernelError, "found an index outside its table");
      reference.embedding(host, hostTensor("i32", [3], new Int32Array([4, 1, 0])), expected);
      f32Data(expected).fill(0, cols, 2 * cols);
      const largest = f32Data(expected).reduce((most, value) => Math.max(most, Math.abs(value)), 0);
      assertNear(values(out), f32Data(expected), 2e-7, `${dtype}, id ${id}`, () => largest);
      context.synchronize(); // told once
    }
  }
});

testOnDevice("embedding() and dequantize() refuse blocks that the device cannot load", (device) => {
  const { backend, on, empty } = device;
  const bytes = on(hostTensor("u8", [1000], new Uint8Array(1000)));
  const table = { ...bytes, dtype: "q4_k" as const, shape: [2, 256], offset: 2 };
  const error = assertThrows(() => backend.dequantize(table), KernelError, "divisible by 16 on a device");
  assertEquals(error.code, 4);
  const ids = on(hostTensor("i32", [1], new Int32Array(1)));
  assertThrows(() => backend.embedding(table, ids, empty(1, 256)), KernelError, '"table" misaligned');
  backend.dequantize({ ...table, dtype: "q6_k" }); // reads two bytes at a time
});
