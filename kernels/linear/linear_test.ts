import { assert, assertEquals, assertThrows } from "@std/assert";
import { openCpu } from "../../ffi/mod.ts";
import { findBlas } from "../../ffi/blas.ts";
import { f32Data } from "../../lib/tensor.ts";
import {
  assertNear,
  numbers,
  openEveryWay,
  randomTensor,
  randomWeight,
  unwritten,
} from "../testing/inputs.ts";
import { LINEAR_CASES } from "./cases.ts";
import { prepare } from "./testing.ts";
import { unless } from "../../lib/testing.ts";

const blas = (await findBlas()).path;

Deno.test("linear() equals the reference on all cases, at every level, on one and three threads", async () => {
  const prepared = LINEAR_CASES.map((c, i) => ({ c, ...prepare(c, i + 1) }));
  const backends = await openEveryWay();
  let runs = 0;
  for (const backend of backends) {
    for (const { c, x, weight, expected, sizes } of prepared) {
      const out = unwritten([c.rows, c.n]);
      backend.linear(x, weight, out);
      const what = `${backend.description}, ${c.rows} x ${c.k} by ${c.n} ${c.dtype}`;
      // Far below the 1e-5 that is asked for: float32 sums of up to 2,304 products.
      assertNear(f32Data(out), expected, 1e-6, what, (i) => sizes[i]!);
      runs++;
    }
  }
  assert(backends.length >= 2);
  assertEquals(runs, backends.length * (3 * 8 + 5 * 7 + 2 * 6) * 11);
});

Deno.test({
  ...unless(blas === undefined && "found no BLAS", "linear() equals the reference with a BLAS"),
  fn: async () => {
    const backends = await openEveryWay(blas);
    let runs = 0;
    LINEAR_CASES.filter(({ rows }) => rows > 8).forEach((c, i) => {
      const { x, weight, expected, sizes } = prepare(c, i + 1);
      for (const backend of backends) {
        const out = unwritten([c.rows, c.n]);
        backend.linear(x, weight, out);
        assertNear(f32Data(out), expected, 1e-6, `${c.rows} x ${c.k} by ${c.n} ${c.dtype}`, (i) => sizes[i]!);
        runs++;
      }
    });
    assertEquals(runs, backends.length * (3 * 8 + 5 * 7 + 2 * 6) * 3);
  },
});

Deno.test("linear() gives a row the same result whatever the other rows hold", async () => {
  for (const backend of [...await openEveryWay(), ...(blas === undefined ? [] : await openEveryWay(blas))]) {
    for (const rows of [2, 8, 40, 200]) {
      const next = numbers(rows);
      const x = randomTensor([rows, 576], next);
      const weight = randomWeight("q4_1", [96, 576], next);
      const before = unwritten([rows, 96]), after = unwritten([rows, 96]);
      backend.linear(x, weight, before);
      f32Data(x).subarray(576).fill(1e30);
      backend.linear(x, weight, after);
      assertEquals(f32Data(after).subarray(0, 96), f32Data(before).subarray(0, 96), backend.description);
      assert(f32Data(after).subarray(96).some((value) => Math.abs(value) > 1e28));
    }
  }
});

Deno.test("linear() refuses shapes and types that do not fit", async () => {
  const backend = await openCpu({ threads: 1, blas: "none" });
  const x = unwritten([2, 32]), weight = unwritten([3, 32]), out = unwritten([2, 3]);
  assertThrows(() => backend.linear(unwritten([2, 31]), weight, out), RangeError, "expected [-1,32]");
  assertThrows(() => backend.linear(x, weight, unwritten([3, 2])), RangeError, "expected [2,3]");
  const ids = { dtype: "i32" as const, shape: [3, 32], data: new Int32Array(96) };
  assertThrows(() => backend.linear(x, ids, out), TypeError, "found i32");
  assertThrows(() => backend.linear(ids, weight, out), TypeError, "expected f32");
});
