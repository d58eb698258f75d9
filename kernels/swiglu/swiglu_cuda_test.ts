import { assertEquals } from "@std/assert";
import { ReferenceBackend } from "../../lib/reference/mod.ts";
import { f32Data, hostTensor } from "../../lib/tensor.ts";
import { openDevice } from "../testing/device.ts";
import { assertNear, numbers, randomTensor, unwritten } from "../testing/inputs.ts";
import { ACTIVATIONS, GATES, SWIGLU_CASES } from "./cases.ts";

const reference = new ReferenceBackend();

Deno.test("swiglu() and geglu() on CUDA equal the reference on all cases, in place too", async () => {
  const device = await openDevice();
  let runs = 0;
  const cases = GATES.flatMap((op) => SWIGLU_CASES.map((c) => ({ ...c, op })));
  for (const [i, { rows, cols, scale, op }] of cases.entries()) {
    const next = numbers(i + 1);
    const gate = randomTensor([rows, cols], () => scale * next()), up = randomTensor([rows, cols], next);
    const expected = unwritten([rows, cols]);
    reference[op](gate, up, expected);
    const out = device.empty(rows, cols), inPlace = device.on(gate), upOn = device.on(up);
    device.backend[op](device.on(gate), upOn, out);
    device.backend[op](inPlace, upOn, inPlace);
    const what = `${op}, [${rows}, ${cols}] times ${scale}`;
    const size = (j: number) =>
      Math.abs(op === "swiglu" ? f32Data(expected)[j]! : f32Data(gate)[j]! * f32Data(up)[j]!);
    assertNear(device.values(out), f32Data(expected), 1e-6, what, size);
    assertEquals(device.values(inPlace), device.values(out), what);
    runs++;
  }
  assertEquals(runs, 2 * 6 * 5);
});

Deno.test("swiglu() and geglu() on CUDA keep their relative error small from one end of the floats to the other", async () => {
  // Every 500,000th float of both signs: subnormal, huge, and infinite or NaN at the ends.
  const bits = Uint32Array.from({ length: 2 ** 32 / 500_000 }, (_, i) => i * 500_000);
  const values = new Float32Array(bits.buffer);
  const device = await openDevice(), out = device.empty(1, values.length);
  const gate = device.on(hostTensor("f32", [1, values.length], values));
  const ones = device.on(hostTensor("f32", gate.shape, new Float32Array(values.length).fill(1)));
  for (const op of GATES) {
    const { activate, slope } = ACTIVATIONS[op];
    device.backend[op](gate, ones, out);
    const found = device.values(out);
    for (const [i, x] of values.entries()) {
      const expected = activate(x), f = found[i]!;
      const bar = 1e-6 * Math.abs(expected) * (1 + Math.abs(slope(x)) / 4) + 1e-36;
      if (Number.isNaN(x)) assertEquals(f, NaN);
      else if (!(Math.abs(f - expected) <= bar) && f !== expected) {
        throw new Error(`${op}: found ${f} for ${x}, expected ${expected}`);
      }
    }
  }
});
