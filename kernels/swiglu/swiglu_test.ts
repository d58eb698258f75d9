import { assertEquals } from "@std/assert";
import { ReferenceBackend } from "../../lib/reference/mod.ts";
import { f32Data, hostTensor } from "../../lib/tensor.ts";
import { assertNear, numbers, openEveryWay, randomTensor, unwritten } from "../testing/inputs.ts";
import { ACTIVATIONS, GATES, SWIGLU_CASES } from "./cases.ts";

const reference = new ReferenceBackend();

Deno.test("swiglu() and geglu() equal the reference on all cases, at every level, in place too", async () => {
  const backends = await openEveryWay();
  let runs = 0;
  const cases = GATES.flatMap((op) => SWIGLU_CASES.map((c) => ({ ...c, op })));
  cases.forEach(({ rows, cols, scale, op }, i) => {
    const next = numbers(i + 1);
    const gate = randomTensor([rows, cols], () => scale * next()), up = randomTensor([rows, cols], next);
    const expected = unwritten([rows, cols]);
    reference[op](gate, up, expected);
    for (const backend of backends) {
      const what = `${op}, ${backend.description}, [${rows}, ${cols}] times ${scale}`;
      const out = unwritten([rows, cols]);
      backend[op](gate, up, out);
      // Rounded, gelu's slope moves the result by that much of gate * up.
      const size = (j: number) =>
        Math.abs(op === "swiglu" ? f32Data(expected)[j]! : f32Data(gate)[j]! * f32Data(up)[j]!);
      assertNear(f32Data(out), f32Data(expected), 1e-6, what, size);
      const inPlace = { ...gate, data: gate.data.slice() };
      backend[op](inPlace, up, inPlace);
      assertEquals(inPlace.data, out.data, what);
      runs++;
    }
  });
  assertEquals(runs, 2 * backends.length * 6 * 5);
});

Deno.test("swiglu() and geglu() keep their relative error small from one end of the floats to the other", async () => {
  // Every 50,000th float of both signs: subnormal, huge, and infinite or NaN at the ends.
  const bits = Uint32Array.from({ length: 2 ** 32 / 50_000 }, (_, i) => i * 50_000);
  const values = new Float32Array(bits.buffer);
  const gate = hostTensor("f32", [1, values.length], values);
  const ones = hostTensor("f32", gate.shape, new Float32Array(values.length).fill(1));
  for (const op of GATES) {
    const { activate, slope } = ACTIVATIONS[op];
    for (const backend of await openEveryWay()) {
      const out = unwritten(gate.shape);
      backend[op](gate, ones, out);
      f32Data(out).forEach((found, i) => {
        const x = values[i]!, expected = activate(x);
        if (Number.isNaN(x)) return assertEquals(found, NaN);
        // Below 1e-36 a float32 e^x is at the end of its range.
        const bar = 1e-6 * Math.abs(expected) * (1 + Math.abs(slope(x)) / 4) + 1e-36;
        if (!(Math.abs(found - expected) <= bar) && found !== expected) {
          throw new Error(`${op}, ${backend.description}: found ${found} for ${x}, expected ${expected}`);
        }
      });
    }
  }
});
