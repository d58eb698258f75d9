import { assert, assertEquals, assertThrows } from "@std/assert";
import { KernelError } from "../../lib/errors.ts";
import { ReferenceBackend } from "../../lib/reference/mod.ts";
import { f32Data, type HostTensor, hostTensor, type Tensor } from "../../lib/tensor.ts";
import { openDevice, type TestDevice } from "../testing/device.ts";
import { assertNear, numbers, randomTensor } from "../testing/inputs.ts";
import { ROPE_CASES, turnsOf } from "./cases.ts";

const reference = new ReferenceBackend();

function turned(x: HostTensor, positions: HostTensor, theta: number): Float32Array {
  const out = { ...x, data: x.data.slice() };
  reference.rope(out, positions, turnsOf(theta, x.shape[2]!));
  return f32Data(out);
}

Deno.test("rope() on CUDA equals the reference on all cases", async () => {
  const device = await openDevice();
  let runs = 0;
  for (const [i, { rows, heads, headDim, theta, first, step }] of ROPE_CASES.entries()) {
    const x = randomTensor([rows, heads, headDim], numbers(i + 1));
    const at = Int32Array.from({ length: rows }, (_, row) => first + step * row);
    const positions = hostTensor("i32", [rows], at);
    const out = device.on(x);
    device.backend.rope(out, device.on(positions), device.on(turnsOf(theta, headDim)));
    const values = turned(x, positions, theta);
    // As on the CPU: at position 2e9 an angle of 2e9 rad has 2e-7 rad of double noise.
    const length = (j: number) => Math.hypot(values[j]!, values[j ^ 1]!);
    const tolerance = first > 1e9 ? 1e-6 : 3e-7;
    assertNear(device.values(out), values, tolerance, `case ${i}`, length);
    runs++;
  }
  assertEquals(runs, 3 * 5 * 3);
});

Deno.test("rope() on CUDA turns heads of more pairs than a launch takes, and every quarter of a turn", async () => {
  const device = await openDevice();
  const x = randomTensor([400, 1, 600], numbers(3));
  const positions = hostTensor("i32", [400], Int32Array.from({ length: 400 }, (_, i) => i - 200));
  const out = device.on(x);
  device.backend.rope(out, device.on(positions), device.on(turnsOf(1e4, 600)));
  const values = turned(x, positions, 1e4);
  const length = (j: number) => Math.hypot(values[j]!, values[j ^ 1]!);
  assertNear(device.values(out), values, 3e-7, "600", length);
});

/** rope() over a list of slots. */
function ropeKept(
  { backend, on }: TestDevice,
  x: Tensor,
  positions: Tensor,
  slots: readonly number[],
  count: number,
): void {
  const list = Int32Array.from({ length: x.shape[0]! }, (_, i) => slots[i] ?? 0);
  const kept = on(hostTensor("i32", [list.length], list));
  const keptCount = on(hostTensor("i32", [1], new Int32Array([count])));
  backend.rope(x, positions, on(turnsOf(1e4, x.shape[2]!)), { keep: kept, kept, keptCount });
}

Deno.test("rope() on CUDA turns the kept slots alone, none where none is kept", async () => {
  const device = await openDevice();
  const x = randomTensor([5, 9, 64], numbers(4)), values = f32Data(x);
  const positions = hostTensor("i32", [5], new Int32Array([3, 100, 7, 99_999, 0]));
  const expected = turned(x, positions, 1e4);
  const length = (j: number) => Math.max(...[values, expected].map((v) => Math.hypot(v[j]!, v[j ^ 1]!)));
  for (const slots of [[], [3], [0, 2, 4], [0, 1, 2, 3, 4]]) {
    const out = device.on(x);
    ropeKept(device, out, device.on(positions), slots, slots.length);
    const found = device.values(out);
    for (let slot = 0; slot < 5; slot++) {
      const [from, to] = [slot * 576, (slot + 1) * 576];
      const want = (slots.includes(slot) ? expected : values).subarray(from, to);
      assertNear(found.subarray(from, to), want, 3e-7, `${slots}`, (j) => length(from + j));
    }
  }
  const out = device.on(x);
  ropeKept(device, out, device.on(positions), [0, 5], 2);
  assertThrows(() => device.context.synchronize(), KernelError, "found an index outside its table");
  ropeKept(device, out, device.on(positions), [], -3);
  ropeKept(device, out, device.on(positions), [0, 1, 2, 3, 4], 1000);
  assert(device.values(out).every(Number.isFinite));
});
