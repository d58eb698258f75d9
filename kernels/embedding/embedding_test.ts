import { assertEquals, assertThrows } from "@std/assert";
import { openCpu } from "../../ffi/mod.ts";
import { KernelError } from "../../lib/errors.ts";
import { dequantize } from "../../lib/reference/dequantize.ts";
import { ReferenceBackend } from "../../lib/reference/mod.ts";
import { countOf, f32Data, hostTensor } from "../../lib/tensor.ts";
import { assertNear, numbers, openEveryWay, randomWeight, unwritten } from "../testing/inputs.ts";
import { EMBEDDING_CASES } from "./cases.ts";

const reference = new ReferenceBackend();

Deno.test("embedding() and dequantize() equal the reference on all cases, at every level", async () => {
  const backends = await openEveryWay();
  let runs = 0;
  EMBEDDING_CASES.forEach((c, i) => {
    const next = numbers(i + 1);
    const table = randomWeight(c.dtype, [c.vocabSize, c.hiddenSize], next);
    const ids = Int32Array.from({ length: c.rows }, () => Math.floor((next() + 1) / 2 * c.vocabSize));
    if (c.rows > 1) ids.set([c.vocabSize - 1, 0]);
    const rows = hostTensor("i32", [c.rows], ids);
    const expected = unwritten([c.rows, c.hiddenSize]);
    reference.embedding(table, rows, expected);
    const all = dequantize(table, 0, countOf(table.shape));
    for (const backend of backends) {
      const out = unwritten([c.rows, c.hiddenSize]);
      const what = `${backend.description}, ${c.dtype} [${table.shape}]`;
      backend.embedding(table, rows, out);
      // d*q + m may be rounded once or twice, on values of a size where the two nearly cancel.
      const largest = all.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
      const relative = c.dtype.startsWith("q") ? 2e-7 : 0;
      assertNear(f32Data(out), f32Data(expected), relative, what, () => largest);
      assertNear(f32Data(backend.dequantize(table)), all, relative, what, () => largest);
      runs++;
    }
  });
  assertEquals(runs, backends.length * (3 * 5 + 5 * 3 + 2 * 2) * 4);
});

Deno.test("embedding() refuses an id outside the table", async () => {
  const backend = await openCpu({ threads: 1, blas: "none" });
  for (const id of [-1, 5]) {
    const ids = hostTensor("i32", [2], new Int32Array([4, id]));
    const error = assertThrows(
      () => backend.embedding(unwritten([5, 3]), ids, unwritten([2, 3])),
      KernelError,
      `found ${id} at index 1 of "ids", expected 0 to 4`,
    );
    assertEquals(error.code, 5);
    assertEquals(error.op, "tkf_embedding_gather");
  }
});
