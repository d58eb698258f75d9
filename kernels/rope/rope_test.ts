import { assert, assertEquals, assertThrows } from "@std/assert";
import { KernelError } from "../../lib/errors.ts";
import { ReferenceBackend } from "../../lib/reference/mod.ts";
import { f32Data, type HostTensor, hostTensor, type Tensor } from "../../lib/tensor.ts";
import { assertNear, numbers, randomTensor, unwritten } from "../testing/inputs.ts";
import {
  cpuWays,
  decisionsOf,
  ONE_THREAD,
  testCases,
  testInEveryWay,
  testOnCpu,
  testOnDevice,
} from "../testing/ways.ts";
import { ROPE_CASES, turnsOf } from "./cases.ts";

const reference = new ReferenceBackend();
const positionsOf = (list: ArrayLike<number>) => hostTensor("i32", [list.length], Int32Array.from(list));

/** The output of the reference for x, and the length of each pair: its parts may cancel. */
function turn(x: HostTensor, positions: HostTensor, turns: HostTensor) {
  const out = { ...x, data: x.data.slice() }, values = f32Data(out);
  reference.rope(out, positions, turns);
  return { expected: values, length: (j: number) => Math.hypot(values[j]!, values[j ^ 1]!) };
}

testCases(
  "rope() equals the reference on all cases",
  ROPE_CASES,
  [3 * 5 * 3, 2],
  ({ rows, heads, headDim, theta, first, step }, i) => {
    const x = randomTensor([rows, heads, headDim], numbers(i + 1));
    const positions = positionsOf(Array.from({ length: rows }, (_, row) => first + step * row));
    const turns = turnsOf(theta, headDim), { expected, length } = turn(x, positions, turns);
    // At position 2e9 an angle of 2e9 rad has 2e-7 rad of double noise.
    const tolerance = first > 1e9 ? 1e-6 : 3e-7;
    return ({ name, backend, on, values }) => {
      const out = on(x);
      backend.rope(out, on(positions), on(turns));
      assertNear(values(out), expected, tolerance, `${name}, case ${i}`, length);
    };
  },
  ({ rows, headDim, first }) => rows === 33 && headDim === 64 && first < 1e9,
);

testInEveryWay("rope() turns heads of many pairs, and every quarter of a turn", (ways) => {
  const x = randomTensor([400, 1, 600], numbers(3));
  const positions = positionsOf(Array.from({ length: 400 }, (_, i) => i - 200));
  const turns = turnsOf(1e4, 600), { expected, length } = turn(x, positions, turns);
  for (const { name, backend, on, values } of ways) {
    const out = on(x);
    backend.rope(out, on(positions), on(turns));
    assertNear(values(out), expected, 3e-7, name, length);
  }
});

testOnCpu("rope() of many rows is the same on three threads as on one", async () => {
  const x = randomTensor([4000, 3, 64], numbers(1));
  const positions = positionsOf(Array.from({ length: 4000 }, (_, i) => 7 * i));
  const found = new Map<string, Float32Array>();
  let compared = 0;
  for (const { name, backend, on, values } of await cpuWays()) {
    const [level] = name.split(","), known = found.get(level!), out = on(x);
    backend.rope(out, positions, turnsOf(1e4, 64));
    found.set(level!, values(out));
    if (known !== undefined) assertEquals(values(out), known, name);
    if (known !== undefined) compared++;
  }
  assert(compared > 0);
}, ONE_THREAD);

testInEveryWay("rope() knows angles again by positions and turns, those of the last call alone", (ways) => {
  const all = numbers(5);
  // [first position, theta]: equal calls, then one of the two other than before, and back.
  const calls = [[0, 1e4], [0, 1e4], [7, 1e4], [7, 5e5], [7, 1e4], [0, 1e4], [0, 5e5]] as const;
  const prepared = [600, 3].flatMap((rows) =>
    [64, 32].flatMap((headDim) =>
      calls.map(([first, theta]) => {
        const x = randomTensor([rows, 2, headDim], all), turns = turnsOf(theta, headDim);
        const positions = positionsOf(Array.from({ length: rows }, (_, i) => first + i));
        return { x, turns, positions, ...turn(x, positions, turns) };
      })
    )
  );
  for (const { name, backend, on, values } of ways) {
    for (const [i, { x, turns, positions, expected, length }] of prepared.entries()) {
      const out = on(x);
      backend.rope(out, on(positions), on(turns));
      assertNear(values(out), expected, 3e-7, `${name}, call ${i}`, length);
    }
  }
});

testInEveryWay("rope() finds angles of some positions among those it made last, and no others", (ways) => {
  const next = numbers(6),
    run = Array.from({ length: 100 }, (_, i) => 20 + i),
    far = [2 ** 31 - 1, -(2 ** 31)];
  const sevens = run.map((i) => 7 * i);
  const lists = [
    ...[run, [23, 24, 50, 119], [119, 20, 20], [23, 24], [23], run, [19, 20], run, [119, 120], [-1]],
    ...[sevens, [1, 2], sevens, [147, 154], [0], [9, 4, 30], [30, 4, 9], far, far.slice(1)],
  ];
  const calls = lists.map((list, i) => {
    const x = randomTensor([list.length, 2, 64], next), positions = positionsOf(list);
    const turns = turnsOf(i === 3 ? 5e5 : 1e4, 64);
    return {
      x,
      turns,
      positions,
      tolerance: list.includes(far[1]!) ? 1e-6 : 3e-7,
      ...turn(x, positions, turns),
    };
  });
  for (const { name, backend, on, values } of ways) {
    for (const [i, { x, turns, positions, tolerance, expected, length }] of calls.entries()) {
      const out = on(x);
      backend.rope(out, on(positions), on(turns));
      assertNear(values(out), expected, tolerance, `${name}, call ${i}`, length);
    }
  }
});

testInEveryWay("rope() refuses an odd head size and a table of another size", (ways) => {
  for (const { backend, on, empty } of ways) {
    const positions = on(positionsOf([0])), x = empty(1, 1, 4);
    assertThrows(() => backend.rope(empty(1, 1, 3), positions, on(turnsOf(1e4, 2))), KernelError, "odd");
    for (const headDim of [2, 6]) {
      assertThrows(() => backend.rope(x, positions, on(turnsOf(1e4, headDim))), RangeError, '"turns"');
    }
    assertThrows(() => backend.rope(x, positions, on(unwritten([2, 2]))), TypeError, '"turns"');
  }
});

testOnDevice("rope() turns the kept slots alone, none where none is kept", (device) => {
  const { backend, context, on, values } = device;
  const x = randomTensor([5, 9, 64], numbers(4)), positions = positionsOf([3, 100, 7, 99_999, 0]);
  const turns = turnsOf(1e4, 64), { expected, length: turned } = turn(x, positions, turns);
  const length = (j: number) => Math.max(turned(j), Math.hypot(f32Data(x)[j]!, f32Data(x)[j ^ 1]!));
  const ropeKept = (out: Tensor, slots: readonly number[], count?: number) =>
    backend.rope(out, on(positions), on(turns), decisionsOf(device, 5, slots, count));
  for (const slots of [[], [3], [0, 2, 4], [0, 1, 2, 3, 4]]) {
    const out = on(x);
    ropeKept(out, slots);
    const found = values(out);
    for (let slot = 0; slot < 5; slot++) {
      const [from, to] = [slot * 576, (slot + 1) * 576];
      const want = (slots.includes(slot) ? expected : f32Data(x)).subarray(from, to);
      assertNear(found.subarray(from, to), want, 3e-7, `${slots}`, (j) => length(from + j));
    }
  }
  const out = on(x);
  ropeKept(out, [0, 5]);
  assertThrows(() => context.synchronize(), KernelError, "found an index outside its table");
  ropeKept(out, [], -3);
  ropeKept(out, [0, 1, 2, 3, 4], 1000);
  assert(values(out).every(Number.isFinite));
});
