import { assert, assertEquals, assertThrows } from "@std/assert";
import type { DeviceTensor } from "../../ffi/cuda/memory.ts";
import type { BatchDecisions } from "../../lib/batch_ops.ts";
import type { DType } from "../../lib/dtype.ts";
import { KernelError } from "../../lib/errors.ts";
import { f32Data, hostTensor, type Tensor } from "../../lib/tensor.ts";
import { inEveryOrder, openDevice, type TestDevice } from "../testing/device.ts";
import { assertNear, numbers, randomTensor, randomWeight } from "../testing/inputs.ts";
import { LINEAR_CASES, type LinearCase } from "./cases.ts";
import { prepare } from "./testing.ts";

const nameOf = (c: LinearCase) => `${c.rows} x ${c.k} by ${c.n} ${c.dtype}`;

function check(device: TestDevice, c: LinearCase, seed: number): void {
  const { x, weight, expected, sizes } = prepare(c, seed);
  const out = device.empty(c.rows, c.n);
  device.backend.linear(device.on(x), device.on(weight), out);
  // Far below the 1e-5 that is asked for, as on the CPU: activations lose nothing in 16-bit parts either. How cuBLASLt
  // sums is its own affair.
  const bar = device.backend.description.includes("cuBLASLt") ? 1e-5 : 1e-6;
  assertNear(device.values(out), expected, bar, `${device.order}, ${nameOf(c)}`, (i) => sizes[i]!);
}

Deno.test("linear() on CUDA equals the reference on all cases", async () => {
  const device = await openDevice();
  let runs = 0;
  for (const [i, c] of LINEAR_CASES.entries()) {
    check(device, c, i + 1);
    runs++;
  }
  assertEquals(runs, (3 * 8 + 5 * 7 + 2 * 6) * 11);
});

Deno.test("linear() on CUDA does not depend on the order of threads", async () => {
  const chosen = (c: LinearCase) =>
    [4, 31].includes(c.rows) && ["f32", "f16", "bf16", "q5_1", "q6_k"].includes(c.dtype) &&
    [33, 96, 256].includes(c.k) && c.n > 1;
  let runs = 0;
  await inEveryOrder((device) => {
    for (const [i, c] of LINEAR_CASES.filter(chosen).entries()) {
      check(device, c, i);
      runs++;
    }
  });
  assertEquals(runs, 5 * 2 * 5);
});

/** Slots that a decode step kept, on the device; `length` is what the kernels read as their number. */
function decisionsOf(
  device: TestDevice,
  batch: number,
  slots: readonly number[],
  length = slots.length,
): BatchDecisions {
  return {
    keep: device.on(hostTensor("u8", [batch], new Uint8Array(batch))),
    kept: device.on(hostTensor("i32", [batch], Int32Array.from({ length: batch }, (_, i) => slots[i] ?? 0))),
    keptCount: device.on(hostTensor("i32", [1], new Int32Array([length]))),
  };
}

/** Fails unless the rows of `slots` equal the reference's and the others are as before, which is NaN. */
function checkSlots(
  device: TestDevice,
  c: LinearCase,
  out: Tensor,
  slots: readonly number[],
  seed: number,
): void {
  const { expected, sizes } = prepare(c, seed);
  const want = expected.map((value, i) => slots.includes(Math.floor(i / c.n)) ? value : NaN);
  const what = `${device.order}, ${nameOf(c)}, slots ${slots}`;
  assertNear(device.values(out), want, 1e-6, what, (i) => sizes[i]!);
}

const DTYPES: readonly DType[] = [
  "f32",
  "f16",
  "bf16",
  "q4_0",
  "q4_1",
  "q5_0",
  "q5_1",
  "q8_0",
  "q4_k",
  "q6_k",
];

Deno.test("linear() multiplies the kept slots alone: none, one, some, all, for all weight types", async () => {
  const device = await openDevice();
  let runs = 0;
  for (const dtype of DTYPES) {
    for (const batch of [1, 5, 16, 70]) {
      const c = { dtype, rows: batch, n: 35, k: 256 }, { x, weight } = prepare(c, batch);
      const xOn = device.on(x), weightOn = device.on(weight);
      const all = Array.from({ length: batch }, (_, i) => i);
      for (const slots of [[], [batch - 1], all.filter((i) => i % 3 !== 1), all]) {
        const out = device.empty(batch, c.n);
        device.backend.linear(xOn, weightOn, out, decisionsOf(device, batch, slots));
        checkSlots(device, c, out, slots, batch);
        runs++;
      }
      const out = device.empty(batch, c.n);
      device.backend.linear(xOn, weightOn, out);
      checkSlots(device, c, out, all, batch);
    }
  }
  assertEquals(runs, 10 * 4 * 4);
});

Deno.test("linear() of kept slots reports slots that are not there, and stays inside its buffers", async () => {
  const device = await openDevice();
  for (const dtype of ["f32", "f16", "bf16", "q4_1"] as const) {
    for (const batch of [3, 40]) {
      const c = { dtype, rows: batch, n: 7, k: 64 }, { x, weight } = prepare(c, 1);
      for (const bad of [-1, batch, 2 ** 31 - 1]) {
        const out = device.empty(batch, c.n);
        device.backend.linear(device.on(x), device.on(weight), out, decisionsOf(device, batch, [bad, 1], 2));
        assertThrows(() => device.context.synchronize(), KernelError, "found an index outside its table");
        checkSlots(device, c, out, [1], 1);
      }
      for (
        const [length, slots] of [[-5, []], [
          10_000,
          Array.from({ length: batch }, (_, i) => i),
        ]] as const
      ) {
        const out = device.empty(batch, c.n);
        device.backend.linear(
          device.on(x),
          device.on(weight),
          out,
          decisionsOf(device, batch, slots, length),
        );
        checkSlots(device, c, out, slots, 1);
      }
    }
  }
});

Deno.test("linear() of kept slots is recorded once and reads the list anew each time", async () => {
  const device = await openDevice(), { backend } = device, { memory } = backend;
  for (const [dtype, batch] of [["q8_0", 4], ["f16", 33], ["f32", 33]] as const) {
    const c = { dtype, rows: batch, n: 9, k: 96 }, { x, weight } = prepare(c, 7);
    const decisions = decisionsOf(device, batch, [], batch);
    const xOn = device.on(x), weightOn = device.on(weight), out = device.empty(batch, c.n);
    backend.linear(xOn, weightOn, out, decisions); // makes room in the workspace
    using graph = backend.record(() => backend.linear(xOn, weightOn, out, decisions));
    for (const slots of [[2], [0, 1, 3], []]) {
      const empty = new Float32Array(batch * c.n).fill(NaN);
      memory.write((out as DeviceTensor).buffer, empty);
      memory.write((decisions.kept as DeviceTensor).buffer, Int32Array.from(slots));
      memory.write((decisions.keptCount as DeviceTensor).buffer, new Int32Array([slots.length]));
      graph.launch();
      checkSlots(device, c, out, slots, 7);
    }
  }
});

Deno.test("linear() on CUDA gives a row the same result whatever the other rows hold", async () => {
  const device = await openDevice();
  for (const dtype of ["f32", "f16", "bf16", "q4_1"] as const) {
    for (const rows of [2, 8, 40, 70]) {
      const next = numbers(rows), x = randomTensor([rows, 576], next);
      const weight = device.on(randomWeight(dtype, [96, 576], next));
      const before = device.empty(rows, 96), after = device.empty(rows, 96);
      device.backend.linear(device.on(x), weight, before);
      f32Data(x).subarray(576).fill(1e30);
      device.backend.linear(device.on(x), weight, after);
      const found = device.values(after);
      assertEquals(found.subarray(0, 96), device.values(before).subarray(0, 96), `${rows} ${dtype}`);
      assert(found.subarray(96).every(Number.isFinite), `${rows} ${dtype}`);
      assert(found.subarray(96).some((value) => Math.abs(value) > 1e28), `${rows} ${dtype}`);
    }
  }
});

Deno.test("linear() on CUDA keeps tiny and huge activations, and shows infinity and NaN in their row alone", async () => {
  const device = await openDevice();
  for (const dtype of ["f16", "bf16", "q8_0"] as const) {
    const c = { dtype, rows: 40, n: 5, k: 64 }, { x: plain, weight: own, expected, sizes } = prepare(c, 3);
    for (const scale of [1e-30, 1e-20, 1e20, 1e34]) {
      const scaled = { ...plain, data: f32Data(plain).map((value) => scale * value) };
      const out = device.empty(40, 5);
      device.backend.linear(device.on(scaled), device.on(own), out);
      const found = Float64Array.from(device.values(out), (value) => value / scale);
      assertNear(found, expected, 1e-6, `${dtype} times ${scale}`, (i) => sizes[i]!);
    }
    const x = randomTensor([40, 64], numbers(1)),
      weight = device.on(randomWeight(dtype, [5, 64], numbers(2)));
    const whole = device.empty(40, 5), broken = device.empty(40, 5);
    device.backend.linear(device.on(x), weight, whole);
    f32Data(x)[3 * 64 + 5] = NaN;
    f32Data(x)[7 * 64 + 9] = -Infinity;
    device.backend.linear(device.on(x), weight, broken);
    const found = device.values(broken), before = device.values(whole);
    for (let row = 0; row < 40; row++) {
      const line = found.subarray(row * 5, row * 5 + 5);
      if (row === 3) assert(line.every(Number.isNaN));
      else if (row === 7) assert(!line.some(Number.isFinite));
      else assertEquals(line, before.subarray(row * 5, row * 5 + 5));
    }
  }
});

Deno.test("linear() on CUDA takes dense rows at any address, refuses blocks that the device cannot load", async () => {
  const device = await openDevice();
  for (const dtype of ["f32", "f16", "bf16"] as const) {
    for (const rows of [3, 40]) {
      const c = { dtype, rows, n: 9, k: 64 }, { x, weight, expected, sizes } = prepare(c, 5);
      // One value further than an address that 16 divides.
      const shifted = (tensor: typeof x) => {
        const { dtype, shape, data } = tensor, own = data.constructor as Float32ArrayConstructor;
        const longer = new own(data.length + 1);
        longer.set(data as Float32Array, 1);
        const on = device.on(hostTensor(dtype, [data.length + 1], longer));
        return { ...on, shape, offset: data.BYTES_PER_ELEMENT };
      };
      const out = device.empty(rows, c.n);
      device.backend.linear(shifted(x), shifted(weight), out);
      assertNear(device.values(out), expected, 1e-6, nameOf(c), (i) => sizes[i]!);
    }
  }
  const bytes = device.on(hostTensor("u8", [1000], new Uint8Array(1000)));
  const x = device.on(randomTensor([1, 256], numbers(1))), out = device.empty(1, 2);
  const weight = { ...bytes, dtype: "q4_k" as const, shape: [2, 256], offset: 8 };
  const aligned = { ...weight, offset: 0 };
  assertThrows(
    () => device.backend.linear(x, weight, out),
    KernelError,
    '"weight" misaligned, expected an address',
  );
  const odd = { ...device.on(randomTensor([300], numbers(1))), shape: [1, 256], offset: 4 };
  assertThrows(
    () => device.backend.linear(odd, aligned, out),
    KernelError,
    '"x" misaligned',
  );
  device.backend.linear(x, aligned, out);
});
