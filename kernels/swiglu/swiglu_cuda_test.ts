import { assertEquals } from "@std/assert";
import { ReferenceBackend } from "../../lib/reference/mod.ts";
import { f32Data, hostTensor } from "../../lib/tensor.ts";
import { openDevice } from "../testing/device.ts";
import { assertNear, numbers, randomTensor, unwritten } from "../testing/inputs.ts";
import { SWIGLU_CASES } from "./cases.ts";

const reference = new ReferenceBackend();

Deno.test("swiglu() on CUDA equals the reference on all cases, in place too", async () => {
  const device = await openDevice();
  let runs = 0;
  for (const [i, { rows, cols, scale }] of SWIGLU_CASES.entries()) {
    const next = numbers(i + 1);
    const gate = randomTensor([rows, cols], () => scale * next()), up = randomTensor([rows, cols], next);
    const expected = unwritten([rows, cols]);
    reference.swiglu(gate, up, expected);
    const out = device.empty(rows, cols), inPlace = device.on(gate), upOn = device.on(up);
    device.backend.swiglu(device.on(gate), upOn, out);
    device.backend.swiglu(inPlace, upOn, inPlace);
    const what = `[${rows}, ${cols}] times ${scale}`;
    assertNear(device.values(out), f32Data(expected), 1e-6, what);
    assertEquals(device.values(inPlace), device.values(out), what);
    runs++;
  }
  assertEquals(runs, 6 * 5);
});

Deno.test("swiglu() on CUDA keeps its relative error below 1e-6 from one end of the floats to the other", async () => {
  // Every 500,000th float of both signs: subnormal, huge, and infinite or NaN at the ends.
  const bits = Uint32Array.from({ length: 2 ** 32 / 500_000 }, (_, i) => i * 500_000);
  const values = new Float32Array(bits.buffer);
  const device = await openDevice(), out = device.empty(1, values.length);
  const gate = device.on(hostTensor("f32", [1, values.length], values));
  device.backend.swiglu(
    gate,
    device.on(hostTensor("f32", gate.shape, new Float32Array(values.length).fill(1))),
    out,
  );
  const found = device.values(out);
  for (const [i, x] of values.entries()) {
    const expected = x / (1 + Math.exp(-x)), f = found[i]!;
    if (Number.isNaN(x)) assertEquals(f, NaN);
    else if (!(Math.abs(f - expected) <= 1e-6 * Math.abs(expected) + 1e-36) && f !== expected) {
      throw new Error(`found ${f} for ${x}, expected ${expected}`);
    }
  }
});
