import { assertEquals, assertThrows } from "@std/assert";
import { KernelError } from "../../lib/errors.ts";
import { ReferenceBackend } from "../../lib/reference/mod.ts";
import { f32Data } from "../../lib/tensor.ts";
import { assertNear, numbers, randomTensor, unwritten } from "../testing/inputs.ts";
import { testCases, testInEveryWay } from "../testing/ways.ts";
import { RMS_NORM_CASES } from "./cases.ts";

const reference = new ReferenceBackend();

testCases(
  "rmsNorm() equals the reference on all cases, in place too",
  RMS_NORM_CASES,
  [4 * 8 * 4 + 4, 3 + 4],
  ({ rows, cols, scale }, i) => {
    const next = numbers(i + 1);
    const x = randomTensor([rows, cols], () => scale * next()), weight = randomTensor([cols], next);
    const expected = unwritten([rows, cols]);
    reference.rmsNorm(x, weight, 1e-5, expected);
    return ({ name, backend, on, empty, values }) => {
      const out = empty(rows, cols), weightOn = on(weight), inPlace = on(x);
      backend.rmsNorm(on(x), weightOn, 1e-5, out);
      backend.rmsNorm(inPlace, weightOn, 1e-5, inPlace);
      const what = `${name}, [${rows}, ${cols}] times ${scale}`;
      assertNear(values(out), f32Data(expected), 3e-7, what);
      assertEquals(values(inPlace), values(out), what);
    };
  },
  ({ rows, cols, scale }) => rows === 2 && cols > 100 && scale === 1,
);

testInEveryWay("rmsNorm() refuses a negative eps and an output of another shape", (ways) => {
  for (const { backend, empty } of ways) {
    const x = empty(1, 4), weight = empty(4);
    assertThrows(() => backend.rmsNorm(x, weight, -1, x), KernelError, "eps");
    assertThrows(() => backend.rmsNorm(x, weight, NaN, x), KernelError, "eps");
    for (const out of [empty(2, 4), empty(1, 3)]) {
      assertThrows(() => backend.rmsNorm(x, weight, 1e-5, out), RangeError, '"out"');
    }
  }
});
