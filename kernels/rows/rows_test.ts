import { assert, assertEquals, assertThrows } from "@std/assert";
import { openCpu } from "../../ffi/mod.ts";
import type { DType } from "../../lib/dtype.ts";
import { KernelError } from "../../lib/errors.ts";
import { ReferenceBackend } from "../../lib/reference/mod.ts";
import { emptyTensor, f32Data, type HostTensor, hostTensor } from "../../lib/tensor.ts";
import {
  assertNear,
  numbers,
  openEveryWay,
  randomTensor,
  randomWeight,
  unwritten,
} from "../testing/inputs.ts";
import { ROWS_CASES } from "./cases.ts";

const reference = new ReferenceBackend();
const FLOATS: readonly DType[] = ["f32", "f16", "bf16"];

/** `picked` different rows of `count`, not in order. */
function pick(count: number, picked: number, next: () => number): HostTensor {
  const order = Array.from({ length: count }, (_, i) => [next(), i]).sort(([a], [b]) => a! - b!);
  return hostTensor("i32", [picked], Int32Array.from(order.slice(0, picked), ([, i]) => i!));
}

/** The same bytes in memory of its own. */
function copyOf(tensor: HostTensor): HostTensor {
  return { ...tensor, data: tensor.data.slice() };
}

Deno.test("gatherRows() equals the reference bit by bit on all cases, at every level", async () => {
  const backends = await openEveryWay();
  let runs = 0;
  for (const [i, { count, cols, picked }] of ROWS_CASES.entries()) {
    for (const dtype of FLOATS) {
      const next = numbers(i + 1);
      const x = randomWeight(dtype, [count, cols], next), rows = pick(count, picked, next);
      for (const outType of dtype === "f32" ? [dtype] : ["f32" as const, dtype]) {
        const expected = emptyTensor(outType, [picked, cols]);
        reference.gatherRows(x, rows, expected);
        for (const backend of backends) {
          const out = emptyTensor(outType, [picked, cols]);
          backend.gatherRows(x, rows, out);
          assertEquals(out.data, expected.data, `${backend.description}, ${dtype} to ${outType}, case ${i}`);
          runs++;
        }
      }
    }
  }
  assertEquals(runs, backends.length * 7 * 5);
});

Deno.test("scatterAddRows() equals the reference on all cases, at every level", async () => {
  const backends = await openEveryWay();
  let runs = 0;
  for (const [i, { count, cols, picked }] of ROWS_CASES.entries()) {
    const next = numbers(i + 1);
    const x = randomTensor([count, cols], next), rows = pick(count, picked, next);
    const delta = randomTensor([picked, cols], next);
    const expected = copyOf(x);
    reference.scatterAddRows(expected, rows, delta);
    for (const backend of backends) {
      const out = copyOf(x);
      backend.scatterAddRows(out, rows, delta);
      assertNear(f32Data(out), f32Data(expected), 1e-7, `${backend.description}, case ${i}`);
      runs++;
    }
  }
  assertEquals(runs, backends.length * 7);
});

Deno.test("storeRows() rounds as the reference does, touches no other row, at every level", async () => {
  const backends = await openEveryWay();
  let runs = 0;
  for (const [i, { count, cols }] of ROWS_CASES.entries()) {
    for (const dtype of FLOATS) {
      const x = randomTensor([count, cols], numbers(i + 1));
      // Ties, the edge of infinity, subnormals of f16, and what is no number.
      const odd = [65519.996, 65520, -65520, 2049 / 2048, 2051 / 2048, 2 ** -25, 3 * 2 ** -25, 5e-8, 6.1e-5];
      f32Data(x).set([...odd, NaN, Infinity, -Infinity, 257 / 256, 259 / 256, -0].slice(0, count * cols));
      const expected = emptyTensor(dtype, [count + 5, cols]);
      new Uint8Array(expected.data.buffer).fill(0x55);
      const before = copyOf(expected);
      reference.storeRows(x, expected, 3);
      for (const backend of backends) {
        const out = copyOf(before);
        backend.storeRows(x, out, 3);
        assertEquals(out.data, expected.data, `${backend.description}, ${dtype}, case ${i}`);
        runs++;
      }
    }
  }
  assertEquals(runs, backends.length * 7 * 3);
});

Deno.test("storeRows() keeps NaN a NaN whatever its bits", async () => {
  const bits = [0x7F800001, 0xFF800001, 0x7FBFFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 0x7FC00000, 0x7F80FFFF];
  const x = hostTensor(
    "f32",
    [5, 7],
    new Float32Array(Uint32Array.from({ length: 35 }, (_, i) => bits[i % 7]!).buffer),
  );
  for (const backend of await openEveryWay()) {
    for (const dtype of FLOATS) {
      const out = emptyTensor(dtype, [5, 7]);
      backend.storeRows(x, out, 0);
      const found = f32Data(backend.dequantize(out));
      assert(found.every(Number.isNaN), `${backend.description}, ${dtype}: ${found}`);
    }
  }
});

Deno.test("rowNorms() equals the reference on all cases, for huge and tiny rows too, at every level", async () => {
  const backends = await openEveryWay();
  let runs = 0;
  for (const [i, { count, cols }] of ROWS_CASES.entries()) {
    for (const scale of [1e-30, 1, 1e30]) {
      const next = numbers(i + 1);
      const x = randomTensor([count, cols], () => scale * next());
      f32Data(x).fill(0, 0, cols);
      const expected = reference.rowNorms(x);
      for (const backend of backends) {
        assertNear(backend.rowNorms(x), expected, 1e-14, `${backend.description}, case ${i}`);
        runs++;
      }
    }
  }
  assertEquals(runs, backends.length * 7 * 3);
});

Deno.test("gatherRows(), scatterAddRows() and storeRows() refuse rows that are not there", async () => {
  const backend = await openCpu({ threads: 1, blas: "none" });
  const x = unwritten([4, 3]);
  for (const row of [-1, 4]) {
    const rows = hostTensor("i32", [1], new Int32Array([row]));
    assertThrows(() => backend.gatherRows(x, rows, unwritten([1, 3])), KernelError, "expected 0 to 3");
    assertThrows(() => backend.scatterAddRows(x, rows, unwritten([1, 3])), KernelError, "expected 0 to 3");
  }
  for (const at of [-1, 2, 0.5, NaN]) {
    assertThrows(() => backend.storeRows(unwritten([3, 3]), x, at), RangeError, "expected them to fit");
  }
});
