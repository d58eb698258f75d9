import { assert, assertEquals, assertThrows } from "@std/assert";
import type { DType } from "../../lib/dtype.ts";
import { KernelError } from "../../lib/errors.ts";
import { ReferenceBackend } from "../../lib/reference/mod.ts";
import {
  emptyTensor,
  f32Data,
  hostData,
  type HostTensor,
  hostTensor,
  type Tensor,
} from "../../lib/tensor.ts";
import { assertNear, numbers, randomTensor, randomWeight } from "../testing/inputs.ts";
import {
  cpuWays,
  decisionsOf,
  openTested,
  testCases,
  testInEveryWay,
  testOnCpu,
  testOnDevice,
} from "../testing/ways.ts";
import { ROWS_CASES, type RowsCase } from "./cases.ts";

const reference = new ReferenceBackend();
const FLOATS: readonly DType[] = ["f32", "f16", "bf16"];
const isSmall = ({ count, cols }: RowsCase) => count <= 33 && cols > 30;
const ints = (list: readonly number[]) => hostTensor("i32", [list.length], Int32Array.from(list));
const copyOf = (tensor: HostTensor): HostTensor => ({ ...tensor, data: tensor.data.slice() });

/** `picked` different rows of `count`, not in order. */
function pick(count: number, picked: number, next: () => number): HostTensor {
  const order = Array.from({ length: count }, (_, i) => [next(), i]).sort(([a], [b]) => a! - b!);
  return ints(order.slice(0, picked).map(([, i]) => i!));
}

testCases(
  "gatherRows() equals the reference bit by bit on all cases",
  ROWS_CASES.flatMap((c) =>
    FLOATS.flatMap((from) =>
      (from === "f32" ? [from] : ["f32" as const, from]).map((to) => ({ ...c, from, to }))
    )
  ),
  [7 * 5, 3 * 5],
  ({ count, cols, picked, from, to }, i) => {
    const next = numbers(i + 1),
      x = randomWeight(from, [count, cols], next),
      rows = pick(count, picked, next);
    const expected = emptyTensor(to, [picked, cols]);
    reference.gatherRows(x, rows, expected);
    return ({ name, backend, on }) => {
      const out = backend.alloc(to, [picked, cols]);
      backend.gatherRows(on(x), on(rows), out);
      assertEquals(backend.read(out).data, expected.data, `${name}, ${from} to ${to}, case ${i}`);
    };
  },
  isSmall,
);

testCases(
  "scatterAddRows() equals the reference on all cases",
  ROWS_CASES,
  [7, 3],
  ({ count, cols, picked }, i) => {
    const next = numbers(i + 1), x = randomTensor([count, cols], next), rows = pick(count, picked, next);
    const delta = randomTensor([picked, cols], next), expected = copyOf(x);
    reference.scatterAddRows(expected, rows, delta);
    return ({ name, backend, on, values }) => {
      const out = on(x);
      backend.scatterAddRows(out, on(rows), on(delta));
      assertNear(values(out), f32Data(expected), 1e-7, `${name}, case ${i}`);
    };
  },
  isSmall,
);

testCases(
  "storeRows() rounds as the reference does and touches no other row",
  ROWS_CASES.flatMap((c) => FLOATS.map((dtype) => ({ ...c, dtype }))),
  [7 * 3, 3 * 3],
  ({ count, cols, dtype }, i) => {
    const x = randomTensor([count, cols], numbers(i + 1));
    // Ties, the edge of infinity, subnormals of f16, and NaN.
    const odd = [65519.996, 65520, -65520, 2049 / 2048, 2051 / 2048, 2 ** -25, 3 * 2 ** -25, 5e-8, 6.1e-5];
    f32Data(x).set([...odd, NaN, Infinity, -Infinity, 257 / 256, 259 / 256, -0].slice(0, count * cols));
    const before = emptyTensor(dtype, [count + 5, cols]);
    new Uint8Array(before.data.buffer).fill(0x55);
    const expected = copyOf(before);
    reference.storeRows(x, expected, 3);
    return ({ name, backend, on }) => {
      const out = on(before);
      backend.storeRows(on(x), out, 3);
      assertEquals(backend.read(out).data, expected.data, `${name}, ${dtype}, case ${i}`);
    };
  },
  isSmall,
);

testCases(
  "storeRows() takes some rows of two matrices, from f32 or from their own type",
  ROWS_CASES.flatMap((c) =>
    FLOATS.flatMap((to) => (to === "f32" ? [to] : ["f32" as const, to]).map((from) => ({ ...c, from, to })))
  ),
  [7 * 5, 3 * 5],
  ({ count, cols, picked, from, to }, i) => {
    const next = numbers(i + 1), [x, second] = [0, 1].map(() => randomWeight(from, [count, cols], next));
    const rows = pick(count, picked, next),
      [out, secondOut] = [0, 1].map(() => emptyTensor(to, [picked + 5, cols]));
    for (const { data } of [out!, secondOut!]) new Uint8Array(data.buffer).fill(0x55);
    const expected = { x: second!, out: copyOf(secondOut!) }, expectedFirst = copyOf(out!);
    reference.storeRows(x!, expectedFirst, 3, rows, expected);
    return ({ name, backend, on }) => {
      const first = on(out!), also = { x: on(second!), out: on(secondOut!) };
      backend.storeRows(on(x!), first, 3, on(rows), also);
      const what = `${name}, ${from} to ${to}, case ${i}`;
      assertEquals(backend.read(first).data, expectedFirst.data, what);
      assertEquals(backend.read(also.out).data, expected.out.data, what);
      const alone = on(out!);
      backend.storeRows(on(x!), alone, 3, on(rows));
      assertEquals(backend.read(alone).data, expectedFirst.data, what);
    };
  },
  isSmall,
);

testCases(
  "storeRows() moves rows within two matrices, but on a device refuses to",
  ROWS_CASES.flatMap((c) => FLOATS.map((dtype) => ({ ...c, dtype }))),
  [7 * 3, 3 * 3],
  ({ count, cols, picked, dtype }, i) => {
    const next = numbers(i + 1), [x, second] = [0, 1].map(() => randomWeight(dtype, [count, cols], next));
    const stays = hostData(pick(count, picked, next)).sort(), at = Math.min(2, stays[0] ?? 0);
    const expected = [x!, second!].map((tensor) => {
      const out = copyOf(tensor);
      reference.storeRows(tensor, out, at, ints([...stays]));
      return out.data;
    });
    return ({ name, backend, on }) => {
      const first = on(x!), also = on(second!);
      const move = () => backend.storeRows(first, first, at, on(ints([...stays])), { x: also, out: also });
      if (!backend.movesRows && picked > 0) return assertThrows(move, KernelError, "two tensors on a device");
      move();
      assertEquals([first, also].map((x) => backend.read(x).data), expected, `${name}, ${dtype}, case ${i}`);
    };
  },
  isSmall,
);

testOnCpu("storeRows() moves many rows within a tensor in order, whatever the threads", async () => {
  using backend = await openTested({ threads: 4, blas: "none" });
  const count = 40_000, cols = 8, numbered = Float32Array.from({ length: count * cols }, (_, i) => i);
  const stays = ints(Array.from({ length: count / 2 }, (_, i) => 2 * i + 1));
  const expected = numbered.filter((_, i) => Math.floor(i / cols) % 2 === 1);
  for (let turn = 0; turn < 20; turn++) {
    const x = hostTensor("f32", [count, cols], numbered.slice());
    backend.storeRows(x, x, 0, stays);
    assert(f32Data(x).subarray(0, expected.length).every((v, i) => v === expected[i]), `turn ${turn}`);
  }
});

testOnCpu(
  "storeRows() within a tensor refuses to put a row where a later one is still to be read",
  async () => {
    for (const { backend, empty } of await cpuWays()) {
      const x = empty(5, 3), other = empty(5, 3);
      for (const [at, rows] of [[1, [0]], [0, [2, 1]], [0, [1, 1]], [2, [2, 4, 3]]] as const) {
        const found = `found row ${rows.at(-1)} of "x" moved to ${at + rows.length - 1} of itself`;
        const store = (out: Tensor, second: Tensor) => () =>
          backend.storeRows(x, out, at, ints(rows), { x: other, out: second });
        const apart = empty(5, 3);
        assertThrows(store(x, other), KernelError, found);
        assertThrows(store(x, apart), KernelError, "expected both or neither");
        assertThrows(store(apart, other), KernelError, "expected both or neither");
        assertThrows(() => backend.storeRows(x, x, at, ints(rows)), KernelError, found);
        store(apart, empty(5, 3))();
      }
      assertThrows(() => backend.storeRows(x, x, 1), RangeError, "fit");
      backend.storeRows(x, x, 0);
      const { buffer, byteOffset } = hostData(x);
      const half = hostTensor("f16", [5, 3], new Uint16Array(buffer as ArrayBuffer, byteOffset, 15));
      assertThrows(() => backend.storeRows(x, half, 0), KernelError, "expected one element type");
    }
  },
);

Deno.test("storeRows() of the reference takes the rows that are named, of both matrices", () => {
  const of = (...data: number[]) => hostTensor("f32", [data.length / 2, 2], Float32Array.from(data));
  const out = of(0, 0, 0, 0, 0, 0), second = { x: of(7, 8, 9, 10, 11, 12), out: of(0, 0, 0, 0, 0, 0) };
  reference.storeRows(of(1, 2, 3, 4, 5, 6), out, 1, ints([2, 0]), second);
  assertEquals([...f32Data(out)], [0, 0, 5, 6, 1, 2]);
  assertEquals([...f32Data(second.out)], [0, 0, 11, 12, 7, 8]);
});

testInEveryWay("storeRows() keeps NaN a NaN whatever its bits", (ways) => {
  const bits = [0x7F800001, 0xFF800001, 0x7FBFFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 0x7FC00000, 0x7F80FFFF];
  const data = new Float32Array(Uint32Array.from({ length: 35 }, (_, i) => bits[i % 7]!).buffer);
  for (const { name, backend, on, values } of ways) {
    for (const dtype of FLOATS) {
      const out = backend.alloc(dtype, [5, 7]);
      backend.storeRows(on(hostTensor("f32", [5, 7], data)), out, 0);
      const found = values(backend.dequantize(out));
      assert(found.every(Number.isNaN), `${name}, ${dtype}: ${found}`);
    }
  }
});

testCases(
  "rowNorms() equals the reference on all cases, for huge and tiny rows too",
  ROWS_CASES.flatMap((c) => [1e-30, 1, 1e30].map((scale) => ({ ...c, scale }))),
  [7 * 3, 3],
  ({ count, cols, scale }, i) => {
    const next = numbers(i + 1), x = randomTensor([count, cols], () => scale * next());
    f32Data(x).fill(0, 0, cols);
    const expected = reference.rowNorms(x);
    return ({ name, backend, on }) =>
      assertNear(backend.rowNorms(on(x)), expected, 1e-14, `${name}, case ${i}`);
  },
  (c) => isSmall(c) && c.scale === 1,
);

testOnCpu("gatherRows(), scatterAddRows() and storeRows() refuse rows that are not there", async () => {
  for (const { backend, empty } of await cpuWays()) {
    const x = empty(4, 3);
    for (const row of [-1, 4]) {
      assertThrows(() => backend.gatherRows(x, ints([row]), empty(1, 3)), KernelError, "expected 0 to 3");
      assertThrows(() => backend.scatterAddRows(x, ints([row]), empty(1, 3)), KernelError, "expected 0 to 3");
      assertThrows(() => backend.storeRows(x, empty(2, 3), 1, ints([row])), KernelError, "expected 0 to 3");
    }
  }
});

testInEveryWay(
  "storeRows() refuses rows that are not there, and a second matrix unlike the first",
  (ways) => {
    for (const { backend, empty } of ways) {
      const unlike = [{ x: empty(3, 2), out: empty(4, 3) }, { x: empty(3, 3), out: empty(5, 3) }];
      for (const second of unlike) {
        const store = () => backend.storeRows(empty(3, 3), empty(4, 3), 0, undefined, second);
        assertThrows(store, RangeError, "second");
      }
      for (const at of [-1, 2, 0.5, NaN]) {
        const store = () => backend.storeRows(empty(3, 3), empty(4, 3), at);
        assertThrows(store, RangeError, "expected them to fit");
      }
    }
  },
);

testOnDevice(
  "gatherRows() and scatterAddRows() report rows that are not there and do the others",
  (device) => {
    const { backend, context, on, empty, values } = device;
    const x = hostTensor("f32", [4, 3], Float32Array.from({ length: 12 }, (_, i) => i));
    for (const row of [-1, 4]) {
      const rows = on(ints([row, 1])), out = empty(2, 3), sum = on(x);
      backend.gatherRows(sum, rows, out);
      assertThrows(() => context.synchronize(), KernelError, "found an index outside its table");
      assertEquals([...values(out)], [0, 0, 0, 3, 4, 5]);
      backend.scatterAddRows(sum, rows, on(hostTensor("f32", [2, 3], new Float32Array(6).fill(100))));
      assertThrows(() => context.synchronize(), KernelError, "found an index outside its table");
      assertEquals([...values(sum)], [0, 1, 2, 103, 104, 105, 6, 7, 8, 9, 10, 11]);
    }
  },
);

testOnDevice(
  "gatherRows() and storeRows() of every type give a row of 0 for one that is not there",
  (device) => {
    const { backend, context, on } = device, next = numbers(1);
    for (const from of FLOATS) {
      for (const to of from === "f32" ? FLOATS : ["f32" as const, from]) {
        for (const cols of [3, 40, 1100]) { // narrow rows, whole pieces of 16 bytes, more than a block has threads
          const x = randomWeight(from, [4, cols], next),
            rows = on(ints([4, 1])),
            out = backend.alloc(to, [2, cols]);
          const expected = emptyTensor(to, [2, cols]), whole = emptyTensor(to, [4, cols]);
          if (from !== "f32") backend.gatherRows(on(x), rows, out);
          else backend.storeRows(on(x), out, 0, rows);
          assertThrows(() => context.synchronize(), KernelError, "found an index outside its table");
          if (from !== "f32") reference.gatherRows(x, ints([0, 1, 2, 3]), whole);
          else reference.storeRows(x, whole, 0);
          expected.data.set(whole.data.subarray(cols, 2 * cols) as never, cols);
          assertEquals(backend.read(out).data, expected.data, `${from} to ${to}, ${cols} columns`);
        }
      }
    }
  },
);

testOnDevice("add() adds at the kept slots alone, advance() moves all but idle positions", (device) => {
  const { backend, context, on, values } = device;
  const x = randomTensor([5, 1030], numbers(1)), delta = randomTensor([5, 1030], numbers(2));
  for (const slots of [undefined, [], [4], [0, 2, 3]]) {
    const sum = on(x);
    backend.add(sum, on(delta), slots && decisionsOf(device, 5, slots));
    const expected = f32Data(x).map((value, i) => {
      return slots === undefined || slots.includes(Math.floor(i / 1030)) ? value + f32Data(delta)[i]! : value;
    });
    assertEquals(values(sum), expected, `${slots}`);
  }
  const sum = on(x);
  backend.add(sum, on(delta), decisionsOf(device, 5, [-1, 5]));
  assertThrows(() => context.synchronize(), KernelError, "found an index outside its table");
  assertEquals(values(sum), f32Data(x));

  const positions = on(ints([0, -1, 99_999, 2 ** 31 - 1]));
  backend.advance(positions);
  assertEquals([...backend.read(positions).data as Int32Array], [1, -1, 100_000, 2 ** 31 - 1]);
});
