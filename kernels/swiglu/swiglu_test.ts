import { assertEquals } from "@std/assert";
import { ReferenceBackend } from "../../lib/reference/mod.ts";
import { f32Data, hostTensor } from "../../lib/tensor.ts";
import { assertNear, numbers, openEveryWay, randomTensor, unwritten } from "../testing/inputs.ts";
import { SWIGLU_CASES } from "./cases.ts";

const reference = new ReferenceBackend();

Deno.test("swiglu() equals the reference on all cases, at every level, in place too", async () => {
  const backends = await openEveryWay();
  let runs = 0;
  SWIGLU_CASES.forEach(({ rows, cols, scale }, i) => {
    const next = numbers(i + 1);
    const gate = randomTensor([rows, cols], () => scale * next()), up = randomTensor([rows, cols], next);
    const expected = unwritten([rows, cols]);
    reference.swiglu(gate, up, expected);
    for (const backend of backends) {
      const what = `${backend.description}, [${rows}, ${cols}] times ${scale}`;
      const out = unwritten([rows, cols]);
      backend.swiglu(gate, up, out);
      assertNear(f32Data(out), f32Data(expected), 1e-6, what);
      const inPlace = { ...gate, data: gate.data.slice() };
      backend.swiglu(inPlace, up, inPlace);
      assertEquals(inPlace.data, out.data, what);
      runs++;
    }
  });
  assertEquals(runs, backends.length * 6 * 5);
});

Deno.test("swiglu() keeps its relative error below 1e-6 from one end of the floats to the other", async () => {
  // Every 50,000th float of both signs: subnormal, huge, and infinite or NaN at the ends.
  const bits = Uint32Array.from({ length: 2 ** 32 / 50_000 }, (_, i) => i * 50_000);
  const values = new Float32Array(bits.buffer);
  const gate = hostTensor("f32", [1, values.length], values);
  const up = hostTensor("f32", gate.shape, new Float32Array(values.length).fill(1));
  const expected = Float64Array.from(values, (x) => x / (1 + Math.exp(-x)));
  for (const backend of await openEveryWay()) {
    const out = unwritten(gate.shape);
    backend.swiglu(gate, up, out);
    const found = f32Data(out);
    for (let i = 0; i < values.length; i++) {
      const e = expected[i]!, f = found[i]!;
      if (Number.isNaN(values[i]!)) assertEquals(f, NaN);
      // Below 1e-36 a float32 e^x is at the end of its range.
      else if (!(Math.abs(f - e) <= 1e-6 * Math.abs(e) + 1e-36) && f !== e) {
        throw new Error(`${backend.description}: found ${f} for ${values[i]}, expected ${e}`);
      }
    }
  }
});
