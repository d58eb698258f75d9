import { assertEquals, assertThrows } from "@std/assert";
import { KernelError } from "../../lib/errors.ts";
import { ReferenceBackend } from "../../lib/reference/mod.ts";
import { f32Data } from "../../lib/tensor.ts";
import { assertNear, numbers, randomTensor, unwritten } from "../testing/inputs.ts";
import { decisionsOf, testCases, testInEveryWay } from "../testing/ways.ts";
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

testCases(
  "addRmsNorm() is add() and rmsNorm(), of all rows or of those kept",
  RMS_NORM_CASES,
  [4 * 8 * 4 + 4, 3 + 4],
  ({ rows, cols, scale }, i) => {
    const next = numbers(i + 1), random = () => scale * next();
    const x = randomTensor([rows, cols], random), delta = randomTensor([rows, cols], random);
    const weight = randomTensor([cols], next), slots = Array.from({ length: rows }, (_, row) => row);
    return (way) => {
      const { name, backend, on, empty, values } = way, deltaOn = on(delta), weightOn = on(weight);
      for (const only of [undefined, decisionsOf(way, rows, slots.filter((row) => row % 3 !== 1))]) {
        const together = on(x), apart = on(x), out = empty(rows, cols), expected = empty(rows, cols);
        backend.add(apart, deltaOn, only);
        backend.rmsNorm(apart, weightOn, 1e-5, expected);
        backend.addRmsNorm(together, deltaOn, weightOn, 1e-5, out, only);
        const what = `${name}, [${rows}, ${cols}] times ${scale}`;
        assertEquals(values(together), values(apart), what);
        assertEquals(values(out), values(expected), what);
      }
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
    assertThrows(() => backend.addRmsNorm(x, empty(2, 4), weight, 1e-5, empty(1, 4)), RangeError, '"delta"');
  }
});
