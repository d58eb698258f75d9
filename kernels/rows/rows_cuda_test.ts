import { assert, assertEquals, assertThrows } from "@std/assert";
import type { DType } from "../../lib/dtype.ts";
import { KernelError } from "../../lib/errors.ts";
import { ReferenceBackend } from "../../lib/reference/mod.ts";
import { emptyTensor, f32Data, type HostTensor, hostTensor } from "../../lib/tensor.ts";
import { inEveryOrder, openDevice } from "../testing/device.ts";
import { assertNear, numbers, randomTensor, randomWeight } from "../testing/inputs.ts";
import { ROWS_CASES } from "./cases.ts";

const reference = new ReferenceBackend();
const FLOATS: readonly DType[] = ["f32", "f16", "bf16"];

/** `picked` different rows of `count`, not in order. */
function pick(count: number, picked: number, next: () => number): HostTensor {
  const order = Array.from({ length: count }, (_, i) => [next(), i]).sort(([a], [b]) => a! - b!);
  return hostTensor("i32", [picked], Int32Array.from(order.slice(0, picked), ([, i]) => i!));
}

Deno.test("gatherRows() on CUDA equals the reference bit by bit on all cases", async () => {
  const device = await openDevice();
  let runs = 0;
  for (const [i, { count, cols, picked }] of ROWS_CASES.entries()) {
    for (const dtype of FLOATS) {
      const next = numbers(i + 1);
      const x = randomWeight(dtype, [count, cols], next), rows = pick(count, picked, next);
      for (const outType of dtype === "f32" ? [dtype] : ["f32" as const, dtype]) {
        const expected = emptyTensor(outType, [picked, cols]);
        reference.gatherRows(x, rows, expected);
        const out = device.backend.alloc(outType, [picked, cols]);
        device.backend.gatherRows(device.on(x), device.on(rows), out);
        assertEquals(device.backend.read(out).data, expected.data, `${dtype} to ${outType}, case ${i}`);
        runs++;
      }
    }
  }
  assertEquals(runs, 7 * 5);
});

Deno.test("scatterAddRows() on CUDA equals the reference on all cases", async () => {
  const device = await openDevice();
  let runs = 0;
  for (const [i, { count, cols, picked }] of ROWS_CASES.entries()) {
    const next = numbers(i + 1);
    const x = randomTensor([count, cols], next), rows = pick(count, picked, next);
    const delta = randomTensor([picked, cols], next), out = device.on(x);
    reference.scatterAddRows(x, rows, delta);
    device.backend.scatterAddRows(out, device.on(rows), device.on(delta));
    assertNear(device.values(out), f32Data(x), 1e-7, `case ${i}`);
    runs++;
  }
  assertEquals(runs, 7);
});

Deno.test("storeRows() on CUDA rounds as the reference does and touches no other row", async () => {
  const device = await openDevice();
  let runs = 0;
  for (const [i, { count, cols }] of ROWS_CASES.entries()) {
    for (const dtype of FLOATS) {
      const x = randomTensor([count, cols], numbers(i + 1));
      // Ties, the edge of infinity, subnormals of f16, and what is no number.
      const odd = [65519.996, 65520, -65520, 2049 / 2048, 2051 / 2048, 2 ** -25, 3 * 2 ** -25, 5e-8, 6.1e-5];
      f32Data(x).set([...odd, NaN, Infinity, -Infinity, 257 / 256, 259 / 256, -0].slice(0, count * cols));
      const expected = emptyTensor(dtype, [count + 5, cols]);
      new Uint8Array(expected.data.buffer).fill(0x55);
      const out = device.on(expected);
      reference.storeRows(x, expected, 3);
      device.backend.storeRows(device.on(x), out, 3);
      assertEquals(device.backend.read(out).data, expected.data, `${dtype}, case ${i}`);
      runs++;
    }
  }
  assertEquals(runs, 7 * 3);
});

Deno.test("storeRows() on CUDA keeps NaN a NaN whatever its bits", async () => {
  const bits = [0x7F800001, 0xFF800001, 0x7FBFFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 0x7FC00000, 0x7F80FFFF];
  const x = hostTensor(
    "f32",
    [5, 7],
    new Float32Array(Uint32Array.from({ length: 35 }, (_, i) => bits[i % 7]!).buffer),
  );
  const device = await openDevice();
  for (const dtype of FLOATS) {
    const out = device.backend.alloc(dtype, [5, 7]);
    device.backend.storeRows(device.on(x), out, 0);
    const found = device.values(device.backend.dequantize(out));
    assert(found.every(Number.isNaN), `${dtype}: ${found}`);
  }
});

Deno.test("rowNorms() on CUDA equals the reference on all cases, for huge and tiny rows too", async () => {
  let runs = 0;
  await inEveryOrder((device) => {
    for (const [i, { count, cols }] of ROWS_CASES.entries()) {
      for (const scale of device.order === "ascending" ? [1e-30, 1, 1e30] : [1]) {
        if (device.order !== "ascending" && count > 100) continue;
        const next = numbers(i + 1);
        const x = randomTensor([count, cols], () => scale * next());
        f32Data(x).fill(0, 0, cols);
        assertNear(
          device.backend.rowNorms(device.on(x)),
          reference.rowNorms(x),
          1e-14,
          `${device.order}, case ${i}`,
        );
        runs++;
      }
    }
  });
  assertEquals(runs, 7 * 3 + 4 * 5);
});

Deno.test("gatherRows() and scatterAddRows() on CUDA report rows that are not there and do the others", async () => {
  const device = await openDevice();
  const x = hostTensor("f32", [4, 3], Float32Array.from({ length: 12 }, (_, i) => i));
  for (const row of [-1, 4]) {
    const rows = device.on(hostTensor("i32", [2], new Int32Array([row, 1])));
    const out = device.empty(2, 3), sum = device.on(x);
    device.backend.gatherRows(sum, rows, out);
    assertThrows(() => device.context.synchronize(), KernelError, "found an index outside its table");
    assertEquals([...device.values(out)], [0, 0, 0, 3, 4, 5]);
    device.backend.scatterAddRows(
      sum,
      rows,
      device.on(hostTensor("f32", [2, 3], new Float32Array(6).fill(100))),
    );
    assertThrows(() => device.context.synchronize(), KernelError, "found an index outside its table");
    assertEquals([...device.values(sum)], [0, 1, 2, 103, 104, 105, 6, 7, 8, 9, 10, 11]);
  }
});

Deno.test("add() adds at the kept slots alone, advance() moves all but idle positions", async () => {
  const device = await openDevice();
  const { backend } = device;
  const x = randomTensor([5, 1030], numbers(1)), delta = randomTensor([5, 1030], numbers(2));
  const decisionsOf = (slots: readonly number[], count = slots.length) => ({
    keep: device.on(hostTensor("u8", [5], new Uint8Array(5))),
    kept: device.on(hostTensor("i32", [5], Int32Array.from({ length: 5 }, (_, i) => slots[i] ?? 0))),
    keptCount: device.on(hostTensor("i32", [1], new Int32Array([count]))),
  });
  for (const slots of [undefined, [], [4], [0, 2, 3]]) {
    const sum = device.on(x);
    backend.add(sum, device.on(delta), slots === undefined ? undefined : decisionsOf(slots));
    const expected = f32Data(x).map((value, i) => {
      return slots === undefined || slots.includes(Math.floor(i / 1030)) ? value + f32Data(delta)[i]! : value;
    });
    assertEquals(device.values(sum), expected, `${slots}`);
  }
  const sum = device.on(x);
  backend.add(sum, device.on(delta), decisionsOf([-1, 5], 2));
  assertThrows(() => device.context.synchronize(), KernelError, "found an index outside its table");
  assertEquals(device.values(sum), f32Data(x));

  const positions = device.on(hostTensor("i32", [4], new Int32Array([0, -1, 99_999, 2 ** 31 - 1])));
  backend.advance(positions);
  assertEquals([...device.backend.read(positions).data as Int32Array], [1, -1, 100_000, 2 ** 31 - 1]);
});
