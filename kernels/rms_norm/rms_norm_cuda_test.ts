import { assertEquals } from "@std/assert";
import { ReferenceBackend } from "../../lib/reference/mod.ts";
import { f32Data } from "../../lib/tensor.ts";
import { inEveryOrder, openDevice, type TestDevice } from "../testing/device.ts";
import { assertNear, numbers, randomTensor, unwritten } from "../testing/inputs.ts";
import { RMS_NORM_CASES, type RmsNormCase } from "./cases.ts";

const reference = new ReferenceBackend();

function check(device: TestDevice, { rows, cols, scale }: RmsNormCase, seed: number): void {
  const next = numbers(seed);
  const x = randomTensor([rows, cols], () => scale * next()), weight = randomTensor([cols], next);
  const expected = unwritten([rows, cols]);
  reference.rmsNorm(x, weight, 1e-5, expected);
  const out = device.empty(rows, cols), weightOn = device.on(weight), inPlace = device.on(x);
  device.backend.rmsNorm(device.on(x), weightOn, 1e-5, out);
  device.backend.rmsNorm(inPlace, weightOn, 1e-5, inPlace);
  const what = `${device.order}, [${rows}, ${cols}] times ${scale}`;
  assertNear(device.values(out), f32Data(expected), 3e-7, what);
  assertEquals(device.values(inPlace), device.values(out), what);
}

Deno.test("rmsNorm() on CUDA equals the reference on all cases, in place too", async () => {
  const device = await openDevice();
  let runs = 0;
  for (const [i, c] of RMS_NORM_CASES.entries()) {
    check(device, c, i + 1);
    runs++;
  }
  assertEquals(runs, 4 * 8 * 4);
});

Deno.test("rmsNorm() on CUDA does not depend on the order of threads", async () => {
  const cases = RMS_NORM_CASES.filter(({ rows, cols, scale }) => rows === 2 && cols > 100 && scale === 1);
  let runs = 0;
  await inEveryOrder((device) => {
    for (const [i, c] of cases.entries()) {
      check(device, c, i + 1);
      runs++;
    }
  });
  assertEquals(runs, 5 * 3);
});
