import { assert, assertEquals, assertThrows } from "@std/assert";
import { KernelError } from "../../lib/errors.ts";
import { f32Data, hostTensor } from "../../lib/tensor.ts";
import { inEveryOrder, openDevice, type TestDevice } from "../testing/device.ts";
import { assertNear, numbers, randomTensor, unwritten } from "../testing/inputs.ts";
import { LOGITS_CASES, type LogitsCase } from "./cases.ts";
import { checkLogits, prepare } from "./testing.ts";

function check(device: TestDevice, c: LogitsCase, seed: number): void {
  const prepared = prepare(c, seed), { other, what } = prepared, { rows, vocabSize } = c;
  checkLogits(device.order, device.backend, prepared, device.on);
  const ids = device.on(hostTensor("i32", [rows], new Int32Array(rows).fill(-7)));
  device.backend.argmax(device.on(other), ids);
  const largest = Array.from({ length: rows }, (_, row) => {
    const line = f32Data(other).subarray(row * vocabSize, (row + 1) * vocabSize);
    return line.indexOf(line.reduce((most, value) => Math.max(most, value)));
  });
  assertEquals([...device.backend.read(ids).data as Int32Array], largest, `${device.order}, ${what}`);
}

Deno.test("nll(), compareLogits() and argmax() on CUDA equal the reference on all cases", async () => {
  const device = await openDevice();
  let runs = 0;
  for (const [i, c] of LOGITS_CASES.entries()) {
    check(device, c, i + 1);
    runs++;
  }
  assertEquals(runs, 11 * 3 + 2);
});

Deno.test("compareLogits() on CUDA does not depend on the order of threads", async () => {
  const cases = LOGITS_CASES.filter(({ vocabSize, scale }) =>
    [33, 989, 4099].includes(vocabSize) && scale === 10
  );
  let runs = 0;
  await inEveryOrder((device) => {
    for (const [i, c] of cases.entries()) {
      check(device, c, i + 1);
      runs++;
    }
  });
  assertEquals(runs, 5 * 3);
});

Deno.test("compareLogits() on CUDA: a row with itself is 0 and agrees; ties go to the lowest index", async () => {
  const device = await openDevice();
  const logits = device.on(randomTensor([3, 1000], numbers(5)));
  const same = device.backend.compareLogits(
    logits,
    logits,
    device.on(hostTensor("i32", [3], new Int32Array([0, 500, 999]))),
  );
  assertNear(same.kl, new Float64Array(3), 1e-12, "kl", () => 1);
  assertEquals([...same.agree], [1, 1, 1]);
  assertEquals(same.nll, same.baseNll);
  const tied = device.on(hostTensor("f32", [2, 3], new Float32Array([2, 2, 1, 1, 2, 2])));
  const late = device.on(hostTensor("f32", [2, 3], new Float32Array([2, 1, 2, 1, 1, 2])));
  const found = device.backend.compareLogits(
    tied,
    late,
    device.on(hostTensor("i32", [2], new Int32Array(2))),
  );
  assertEquals([...found.agree], [1, 0]);
  // A row with NaN agrees with nothing, not even itself.
  const poisoned = device.on(hostTensor("f32", [3, 2], new Float32Array([NaN, 1, 1, NaN, 1, 2])));
  const first = device.on(hostTensor("i32", [3], new Int32Array(3)));
  assertEquals([...device.backend.compareLogits(poisoned, poisoned, first).agree], [0, 0, 1]);
  // Ties of threads of different warps, and rows of nothing but -Infinity or NaN.
  const row = new Float32Array(5 * 2000).fill(-1);
  for (const i of [1999, 1234, 567]) row[i] = 4;
  row.fill(-Infinity, 2000, 4000).fill(NaN, 4000, 6000);
  row[6000 + 1777] = NaN;
  row[8000] = NaN;
  const ids = device.on(hostTensor("i32", [5], new Int32Array(5).fill(-7)));
  device.backend.argmax(device.on(hostTensor("f32", [5, 2000], row)), ids);
  assertEquals([...device.backend.read(ids).data as Int32Array], [567, 0, 0, 0, 1]);
});

Deno.test("nll() on CUDA takes minus infinity, far logits and NaN as arithmetic does", async () => {
  const device = await openDevice(), vocabSize = 2500;
  const logits = unwritten([4, vocabSize]), x = f32Data(logits);
  x.fill(-Infinity);
  x[2000] = 3; // all probability on one token
  x.fill(-1e30, vocabSize, 2 * vocabSize);
  x[vocabSize] = 1e30;
  x.fill(0, 2 * vocabSize, 4 * vocabSize);
  x[3 * vocabSize + 1500] = NaN;
  const targets = device.on(hostTensor("i32", [4], new Int32Array([2000, 0, 9, 9])));
  const found = device.backend.nll(device.on(logits), targets);
  assertEquals([...found.subarray(0, 2)], [0, 0]);
  assert(Math.abs(found[2]! - Math.log(vocabSize)) < 1e-6);
  assertEquals(found[3], NaN);
  // Tokens that both rule out, or the first alone, add nothing to the divergence; the second alone, infinity.
  const base = device.on(hostTensor("f32", [2, 3], new Float32Array([0, 0, -Infinity, 0, 0, 0])));
  const other = device.on(hostTensor("f32", [2, 3], new Float32Array([0, 0, 0, 0, 0, -Infinity])));
  const { kl } = device.backend.compareLogits(
    base,
    other,
    device.on(hostTensor("i32", [2], new Int32Array(2))),
  );
  assert(Math.abs(kl[0]! - Math.log(1.5)) < 1e-6);
  assertEquals(kl[1], Infinity);
});

Deno.test("nll() on CUDA reports a target outside the vocabulary", async () => {
  const device = await openDevice();
  const logits = device.on(unwritten([1, 7]));
  for (const id of [-1, 7]) {
    const targets = device.on(hostTensor("i32", [1], new Int32Array([id])));
    assertThrows(() => device.backend.nll(logits, targets), KernelError, "found an index outside its table");
    assertThrows(
      () => device.backend.compareLogits(logits, logits, targets),
      KernelError,
      "outside its table",
    );
  }
});
