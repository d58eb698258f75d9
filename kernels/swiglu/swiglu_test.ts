import { assertEquals } from "@std/assert";
import { ReferenceBackend } from "../../lib/reference/mod.ts";
import { f32Data, hostTensor } from "../../lib/tensor.ts";
import { assertNear, numbers, randomTensor, unwritten } from "../testing/inputs.ts";
import { testCases, testInEveryWay } from "../testing/ways.ts";
import { ACTIVATIONS, GATES, SWIGLU_CASES } from "./cases.ts";

const reference = new ReferenceBackend();

testCases(
  "swiglu() and geglu() equal the reference on all cases, in place too",
  GATES.flatMap((op) => SWIGLU_CASES.map((c) => ({ ...c, op }))),
  [2 * 6 * 5, 2 * 2],
  ({ rows, cols, scale, op }, i) => {
    const next = numbers(i + 1);
    const gate = randomTensor([rows, cols], () => scale * next()), up = randomTensor([rows, cols], next);
    const expected = unwritten([rows, cols]);
    reference[op](gate, up, expected);
    // Rounded, gelu's slope moves the result by that much of gate * up.
    const size = (j: number) =>
      Math.abs(op === "swiglu" ? f32Data(expected)[j]! : f32Data(gate)[j]! * f32Data(up)[j]!);
    return ({ name, backend, on, empty, values }) => {
      const out = empty(rows, cols), inPlace = on(gate), upOn = on(up);
      backend[op](on(gate), upOn, out);
      backend[op](inPlace, upOn, inPlace);
      const what = `${op}, ${name}, [${rows}, ${cols}] times ${scale}`;
      assertNear(values(out), f32Data(expected), 1e-6, what, size);
      assertEquals(values(inPlace), values(out), what);
    };
  },
  ({ cols, scale }) => cols > 100 && scale === 1,
);

testInEveryWay(
  "swiglu() and geglu() keep their relative error small from one end of the floats to the other",
  (ways) => {
    for (const { name, backend, on, empty, values } of ways) {
      // Every 50,000th float of both signs (on a device every 500,000th): subnormal, huge, infinite or NaN at the ends.
      const step = backend.name !== "cuda" ? 50_000 : 500_000;
      const bits = Uint32Array.from({ length: 2 ** 32 / step }, (_, i) => i * step);
      const gate = hostTensor("f32", [1, bits.length], new Float32Array(bits.buffer)),
        ones = hostTensor("f32", gate.shape, new Float32Array(bits.length).fill(1));
      for (const op of GATES) {
        const { activate, slope } = ACTIVATIONS[op], out = empty(1, bits.length);
        backend[op](on(gate), on(ones), out);
        const found = values(out);
        for (const [i, x] of f32Data(gate).entries()) {
          const expected = activate(x), f = found[i]!;
          // Below 1e-36 a float32 e^x is at the end of its range.
          const bar = 1e-6 * Math.abs(expected) * (1 + Math.abs(slope(x)) / 4) + 1e-36;
          if (Number.isNaN(x)) assertEquals(f, NaN);
          else if (!(Math.abs(f - expected) <= bar) && f !== expected) {
            throw new Error(`${op}, ${name}: found ${f} for ${x}, expected ${expected}`);
          }
        }
      }
    }
  },
);
