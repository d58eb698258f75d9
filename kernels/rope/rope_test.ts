import { assertEquals, assertThrows } from "@std/assert";
import { cpuLevels, openCpu } from "../../ffi/mod.ts";
import { KernelError } from "../../lib/errors.ts";
import { ReferenceBackend } from "../../lib/reference/mod.ts";
import { f32Data, hostTensor } from "../../lib/tensor.ts";
import { assertNear, numbers, openEveryWay, randomTensor, unwritten } from "../testing/inputs.ts";
import { ROPE_CASES, turnsOf } from "./cases.ts";

const reference = new ReferenceBackend();

Deno.test("rope() equals the reference on all cases, at every level", async () => {
  const backends = await openEveryWay();
  let runs = 0;
  ROPE_CASES.forEach(({ rows, heads, headDim, theta, first, step }, i) => {
    const x = randomTensor([rows, heads, headDim], numbers(i + 1));
    const at = Int32Array.from({ length: rows }, (_, row) => first + step * row);
    const positions = hostTensor("i32", [rows], at), turns = turnsOf(theta, headDim);
    const expected = { ...x, data: x.data.slice() };
    reference.rope(expected, positions, turns);
    // The parts of a pair may cancel. At position 2e9 an angle of 2e9 rad has 2e-7 rad of double noise.
    const values = f32Data(expected);
    const length = (j: number) => Math.hypot(values[j]!, values[j ^ 1]!);
    for (const backend of backends) {
      const out = { ...x, data: x.data.slice() };
      backend.rope(out, positions, turns);
      const tolerance = first > 1e9 ? 1e-6 : 3e-7;
      assertNear(f32Data(out), f32Data(expected), tolerance, `${backend.description}, case ${i}`, length);
      runs++;
    }
  });
  assertEquals(runs, backends.length * 3 * 5 * 3);
});

Deno.test("rope() of many rows is the same on three threads as on one", async () => {
  const x = randomTensor([4000, 3, 64], numbers(1));
  const positions = hostTensor("i32", [4000], Int32Array.from({ length: 4000 }, (_, i) => 7 * i));
  for (const level of await cpuLevels()) {
    const [one, three] = await Promise.all([1, 3].map(async (threads) => {
      const out = { ...x, data: x.data.slice() };
      (await openCpu({ level, threads, blas: "none" })).rope(out, positions, turnsOf(1e4, 64));
      return f32Data(out);
    }));
    assertNear(one!, three!, 0, level);
  }
});

Deno.test("rope() refuses an odd head size and a table of another size", async () => {
  const backend = await openCpu({ threads: 1, blas: "none" });
  const positions = hostTensor("i32", [1], new Int32Array(1));
  assertThrows(() => backend.rope(unwritten([1, 1, 3]), positions, turnsOf(1e4, 2)), KernelError, "odd");
  for (const headDim of [2, 6]) {
    const turns = turnsOf(1e4, headDim);
    assertThrows(() => backend.rope(unwritten([1, 1, 4]), positions, turns), RangeError, '"turns"');
  }
  assertThrows(
    () => backend.rope(unwritten([1, 1, 4]), positions, unwritten([2, 2])),
    TypeError,
    '"turns"',
  );
});
