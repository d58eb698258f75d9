import { assertEquals, assertThrows } from "@std/assert";
import { openCpu } from "../../ffi/mod.ts";
import { KernelError } from "../../lib/errors.ts";
import { ReferenceBackend } from "../../lib/reference/mod.ts";
import { f32Data } from "../../lib/tensor.ts";
import { assertNear, numbers, openEveryWay, randomTensor, unwritten } from "../testing/inputs.ts";
import { RMS_NORM_CASES } from "./cases.ts";

const reference = new ReferenceBackend();

Deno.test("rmsNorm() equals the reference on all cases, at every level, in place too", async () => {
  const backends = await openEveryWay();
  let runs = 0;
  RMS_NORM_CASES.forEach(({ rows, cols, scale }, i) => {
    const next = numbers(i + 1);
    const x = randomTensor([rows, cols], () => scale * next()), weight = randomTensor([cols], next);
    const expected = unwritten([rows, cols]);
    reference.rmsNorm(x, weight, 1e-5, expected);
    for (const backend of backends) {
      const what = `${backend.description}, [${rows}, ${cols}] times ${scale}`;
      const out = unwritten([rows, cols]);
      backend.rmsNorm(x, weight, 1e-5, out);
      assertNear(f32Data(out), f32Data(expected), 3e-7, what);
      const inPlace = { ...x, data: x.data.slice() };
      backend.rmsNorm(inPlace, weight, 1e-5, inPlace);
      assertEquals(inPlace.data, out.data, what);
      runs++;
    }
  });
  assertEquals(runs, backends.length * 4 * 8 * 4);
});

Deno.test("rmsNorm() refuses a negative eps", async () => {
  const backend = await openCpu({ threads: 1, blas: "none" });
  const x = unwritten([1, 4]);
  assertThrows(() => backend.rmsNorm(x, unwritten([4]), -1, x), KernelError, "eps");
  assertThrows(() => backend.rmsNorm(x, unwritten([4]), NaN, x), KernelError, "eps");
});
