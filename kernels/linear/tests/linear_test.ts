import { assert, assertEquals, assertThrows } from "@std/assert";
import { findBlas } from "../../../ffi/blas.ts";
import type { DeviceTensor } from "../../../ffi/cuda/memory.ts";
import { ptxCounts } from "../../../ffi/cuda/testing.ts";
import { KernelError } from "../../../lib/errors.ts";
import { ReferenceBackend } from "../../../lib/reference/mod.ts";
import { f32Data, type HostTensor, hostTensor, type Tensor } from "../../../lib/tensor.ts";
import { WEIGHTS } from "../../testing/fuzz/draw.ts";
import { assertNear, numbers, randomTensor, randomWeight, unwritten } from "../../testing/inputs.ts";
import {
  cpuWays,
  decisionsOf,
  isSampled,
  testCases,
  testInEveryWay,
  testOnCpu,
  testOnDevice,
  type Way,
} from "../../testing/ways.ts";
import { LINEAR_CASES, type LinearCase, MULTIPLIED } from "../cases.ts";
import { barOf, checkSlots, nameOf, prepare } from "./testing.ts";

const blas = (await findBlas()).path, NO_BLAS = blas === undefined && "found no BLAS";

/** A case's inputs, and the comparison of a way with the reference's result. */
function checkOf(c: LinearCase, seed: number): (way: Way) => void {
  const { x, weight, expected, sizes } = prepare(c, seed);
  return (way) => {
    const { name, backend, on, empty, values } = way, out = empty(c.rows, c.n);
    backend.linear(on(x), on(weight), out);
    assertNear(values(out), expected, barOf(way, c), `${name}, ${nameOf(c)}`, (i) => sizes[i]!);
  };
}

testCases(
  "linear() equals the reference on all cases",
  LINEAR_CASES,
  [(3 * 8 + 5 * 7 + 2 * 6) * 11 + 2 * 4 + 6 * 2 * 6 + 2 * 2 * 3 + 2 * 2, 2 * 5],
  (c, i) => checkOf(c, i + 1),
  (c) =>
    [4, 31].includes(c.rows) && ["f32", "f16", "bf16", "q5_1", "q6_k"].includes(c.dtype) &&
    [33, 96, 256].includes(c.k) && c.n > 1,
);

testInEveryWay("linear() equals the reference by weights of every type, for one row to eight", (ways) => {
  for (const [i, dtype] of WEIGHTS.entries()) {
    for (const rows of [1, 2, 4, 8]) { // each number of rows that a kernel is compiled for, and tensor cores
      for (const k of [256, 2304]) { // less than a block of threads takes at once, and several times as much
        const check = checkOf({ dtype, rows, n: 9, k }, i + 1); // the middle row of weights is zero
        for (const way of ways) check(way);
      }
    }
  }
  assertEquals(WEIGHTS.length, 16);
});

testOnCpu("linear() equals the reference with a BLAS", async () => {
  const ways = await cpuWays(blas);
  let runs = 0;
  const cases = LINEAR_CASES.filter(({ rows }) => rows > 8);
  for (const [i, c] of cases.entries()) {
    if (!isSampled(i)) continue;
    const check = checkOf(c, i + 1);
    for (const way of ways) check(way), runs++;
  }
  assertEquals(runs, ways.length * cases.filter((_, i) => isSampled(i)).length);
  assertEquals(cases.length, (3 * 8 + 5 * 7 + 2 * 6) * 3 + 2 * 2 + 6 * 2 * 2 + 2 * 2 * 3 + 2 * 2);
}, NO_BLAS);

/** Fails where a row's result hangs on what the other rows hold. */
function checkRows({ name, backend, on, empty, values }: Way): void {
  for (const dtype of ["f32", "f16", "bf16", "q4_1"] as const) {
    for (const rows of [2, 8, 40, backend.name !== "cuda" ? 200 : 70]) {
      const next = numbers(rows), x = randomTensor([rows, 576], next), what = `${name}, ${rows} ${dtype}`;
      const weight = on(randomWeight(dtype, [96, 576], next));
      const before = empty(rows, 96), after = empty(rows, 96);
      backend.linear(on(x), weight, before);
      f32Data(x).subarray(576).fill(1e30);
      backend.linear(on(x), weight, after);
      const found = values(after);
      assertEquals(found.subarray(0, 96), values(before).subarray(0, 96), what);
      assert(found.subarray(96).every(Number.isFinite), what);
      assert(found.subarray(96).some((value) => Math.abs(value) > 1e28), what);
    }
  }
}

testInEveryWay(
  "linear() gives a row the same result whatever the other rows hold",
  (ways) => ways.forEach(checkRows),
);

testOnCpu(
  "linear() with a BLAS gives a row the same result too",
  async () => (await cpuWays(blas)).forEach(checkRows),
  NO_BLAS,
);

testOnCpu("linear() gives a row the same bits however many rows there are beyond few", async () => {
  const ways = await cpuWays();
  for (const [i, dtype] of MULTIPLIED.entries()) {
    // Values in more than one piece, rows of weights in more than one group, and a last group that is not whole.
    const next = numbers(i), most = 200, x = randomTensor([most, 768], next);
    const weight = randomWeight(dtype, [71, 768], next);
    for (const { name, backend, empty, values } of ways) {
      const all = empty(most, 71);
      backend.linear(x, weight, all); // by panels of weights
      for (const rows of [9, 14, 16, 17, 24, 31, 32, 36, 61, 128]) {
        const out = empty(rows, 71);
        backend.linear(rowsOf(x, rows), weight, out);
        assertEquals(values(out), values(all).subarray(0, rows * 71), `${name}, ${rows} ${dtype}`);
      }
    }
  }
});

testInEveryWay("linear() refuses shapes and types that do not fit", (ways) => {
  for (const { backend, on, empty } of ways) {
    const x = empty(2, 32), weight = empty(3, 32), out = empty(2, 3);
    assertThrows(() => backend.linear(empty(2, 31), weight, out), RangeError, "expected [-1,32]");
    assertThrows(() => backend.linear(x, weight, empty(3, 2)), RangeError, "expected [2,3]");
    const ids = on(hostTensor("i32", [3, 32], new Int32Array(96)));
    assertThrows(() => backend.linear(x, ids, out), TypeError, "found i32");
    assertThrows(() => backend.linear(ids, weight, out), TypeError, "expected f32");
  }
});

testOnDevice(
  "linear() multiplies the kept slots alone: none, one, some, all, for all ways of multiplying",
  (device) => {
    let runs = 0;
    for (const dtype of MULTIPLIED) {
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
  },
);

testOnDevice(
  "linear() of kept slots reports slots that are not there, and stays inside its buffers",
  (device) => {
    for (const dtype of ["f32", "f16", "bf16", "q4_1"] as const) {
      for (const batch of [3, 70]) {
        const c = { dtype, rows: batch, n: 7, k: 64 }, { x, weight } = prepare(c, 1);
        for (const bad of [-1, batch, 2 ** 31 - 1]) {
          const out = device.empty(batch, c.n);
          device.backend.linear(device.on(x), device.on(weight), out, decisionsOf(device, batch, [bad, 1]));
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
  },
);

testOnDevice(
  "linear() takes kept slots in any order, and reports bad ones, by weights of every type",
  (device) => {
    const odd = (["f32", "f16", "bf16"] as const).map((dtype) => [dtype, 33] as const);
    for (const [dtype, k] of [...WEIGHTS.map((dtype) => [dtype, 256] as const), ...odd]) {
      for (const batch of [1, 2, 4, 6]) { // each number of rows that a kernel is compiled for, and tensor cores
        const c = { dtype, rows: batch, n: 7, k }, { x, weight } = prepare(c, 1), xOn = device.on(x);
        const all = Array.from({ length: batch }, (_, i) => batch - 1 - i), weightOn = device.on(weight);
        for (const slots of [all, [...all.slice(0, -1), batch], all.map(() => batch)]) {
          const out = device.empty(batch, c.n), there = slots.filter((slot) => slot < batch);
          device.backend.linear(xOn, weightOn, out, decisionsOf(device, batch, slots));
          if (there.length < batch) {
            assertThrows(() => device.context.synchronize(), KernelError, "found an index outside its table");
          }
          checkSlots(device, c, out, there, 1);
        }
      }
    }
  },
);

testOnDevice("linear() of kept slots is recorded once and reads the list anew each time", (device) => {
  const { backend } = device, { memory } = backend;
  for (const [dtype, batch] of [["q8_0", 4], ["f16", 33], ["f32", 33]] as const) {
    const c = { dtype, rows: batch, n: 9, k: 96 }, { x, weight } = prepare(c, 7);
    const every = Array.from({ length: batch }, (_, i) => i), decisions = decisionsOf(device, batch, every);
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

testOnDevice(
  "linear() keeps tiny and huge activations, and shows infinity and NaN in their row alone",
  (device) => {
    for (
      const [dtype, rows] of (["f16", "bf16", "q8_0"] as const).flatMap((d) => [[d, 12], [d, 70]] as const)
    ) {
      const c = { dtype, rows, n: 5, k: 64 }, { x: plain, weight: own, expected, sizes } = prepare(c, 3);
      for (const scale of [1e-30, 1e-20, 1e20, 1e34]) {
        const scaled = { ...plain, data: f32Data(plain).map((value) => scale * value) };
        const out = device.empty(rows, 5);
        device.backend.linear(device.on(scaled), device.on(own), out);
        const found = Float64Array.from(device.values(out), (value) => value / scale);
        assertNear(
          found,
          expected,
          barOf(device, c),
          `${rows} rows, ${dtype} times ${scale}`,
          (i) => sizes[i]!,
        );
      }
      const x = randomTensor([rows, 64], numbers(1)),
        weight = device.on(randomWeight(dtype, [5, 64], numbers(2)));
      const whole = device.empty(rows, 5), broken = device.empty(rows, 5);
      device.backend.linear(device.on(x), weight, whole);
      f32Data(x)[3 * 64 + 5] = NaN;
      f32Data(x)[7 * 64 + 9] = -Infinity;
      device.backend.linear(device.on(x), weight, broken);
      const found = device.values(broken), before = device.values(whole);
      for (let row = 0; row < rows; row++) {
        const line = found.subarray(row * 5, row * 5 + 5);
        if (row === 3) assert(line.every(Number.isNaN));
        else if (row === 7) assert(!line.some(Number.isFinite));
        else assertEquals(line, before.subarray(row * 5, row * 5 + 5));
      }
    }
  },
);

testOnDevice(
  "linear() takes dense rows at any address, refuses blocks that the device cannot load",
  (device) => {
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
        assertNear(device.values(out), expected, barOf(device, c), nameOf(c), (i) => sizes[i]!);
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
  },
);

/** The first rows of a tensor, which may be of blocks. */
const rowsOf = <T extends Tensor>(tensor: T, rows: number): T => ({
  ...tensor,
  shape: [rows, tensor.shape[1]!],
});
const largest = (tensor: HostTensor) =>
  f32Data(tensor).reduce((most, value) => Math.max(most, Math.abs(value)), 0);

testOnDevice("linear() of the same x splits it once, and another or a changed one anew", (device) => {
  const { backend } = device, reference = new ReferenceBackend();
  const launches = () => ptxCounts()?.launches ?? 0;
  for (const dtype of ["f16", "bf16", "q8_0"] as const) {
    const [first, second] = [1, 2].map((seed) => prepare({ dtype, rows: 70, n: 35, k: 96 }, seed));
    const x = device.on(first!.x), other = device.on(second!.x), weight = device.on(first!.weight);
    // Launches of a product of the first rows of `x`, which hold those of `host`, by the first rows of the weights.
    const run = (x: Tensor, host: HostTensor, sameX: boolean, rows = 70, n = 35) => {
      const out = device.empty(rows, n), expected = unwritten([rows, n]), before = launches();
      backend.linear(rowsOf(x, rows), rowsOf(weight, n), out, undefined, sameX);
      const count = launches() - before;
      reference.linear(rowsOf(host, rows), rowsOf(first!.weight, n), expected);
      assertNear(
        device.values(out),
        f32Data(expected),
        1e-5,
        `${dtype}, ${rows} by ${n}`,
        () => largest(expected),
      );
      return count;
    };
    run(x, first!.x, false); // makes room in the workspace
    const whole = run(x, first!.x, false), less = whole === 0 ? 0 : whole - 1; // a GPU's are not counted
    assertEquals(run(x, first!.x, true), less, dtype);
    assertEquals(run(x, first!.x, true, 70, 20), less, "other weights");
    assertEquals(run(other, second!.x, true), whole, "another x");
    assertEquals(run(x, first!.x, false), whole, "the first again");
    assertEquals(run(x, first!.x, true, 69), whole, "fewer rows");
    run(x, first!.x, false);
    backend.memory.write((x as DeviceTensor).buffer, f32Data(second!.x));
    run(x, second!.x, false, 3); // so few are not split
    assertEquals(run(x, second!.x, true), whole, "changed before a product that splits nothing");
    assertEquals(run(x, second!.x, true), less);
    backend.memory.write((x as DeviceTensor).buffer, f32Data(first!.x));
    assertEquals(run(x, first!.x, false), whole, "changed");
    backend.argmax(
      device.on(randomTensor([2, 40_000], numbers(3))),
      device.on(hostTensor("i32", [2], new Int32Array(2))),
    );
    assertEquals(run(x, first!.x, true), whole, "after another op took the workspace");
  }
});

testOnDevice(
  "linear() of the same x splits it in every graph, and does not take what only a graph will",
  (device) => {
    const { backend } = device, c = { dtype: "bf16", rows: 70, n: 9, k: 64 } as const;
    const inputs = [1, 2, 3].map((seed) => prepare(c, seed).x), weight = prepare(c, 1).weight;
    const x = device.on(inputs[0]!), weightOn = device.on(weight), out = device.empty(c.rows, c.n);
    const holds = (turn: number) => backend.memory.write((x as DeviceTensor).buffer, f32Data(inputs[turn]!));
    const product = (sameX: boolean) => backend.linear(x, weightOn, out, undefined, sameX);
    const check = (turn: number) => {
      const expected = unwritten([c.rows, c.n]);
      new ReferenceBackend().linear(inputs[turn]!, weight, expected);
      assertNear(device.values(out), f32Data(expected), 1e-5, `x number ${turn}`, () => largest(expected));
    };
    product(false);
    using graph = backend.record(() => product(true));
    holds(1);
    graph.launch();
    check(1);
    product(false);
    holds(2);
    using twice = backend.record(() => (product(false), product(true)));
    product(true);
    check(2);
    holds(0);
    twice.launch();
    check(0);
  },
);
