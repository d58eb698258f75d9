import { assert } from "@std/assert";
import { openDevice } from "../testing/device.ts";

Deno.test("measureMachine() on CUDA finds speeds of a device", async () => {
  const { flopsPerSecond, bytesPerSecond } = (await openDevice()).backend.measureMachine();
  assert(flopsPerSecond > 1e5 && flopsPerSecond < 1e15, `${flopsPerSecond} FLOP/s`);
  assert(bytesPerSecond > 1e5 && bytesPerSecond < 1e14, `${bytesPerSecond} bytes/s`);
});
