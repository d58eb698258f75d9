import { assert } from "@std/assert";
import { cpuLevels, openCpu } from "../../ffi/mod.ts";

Deno.test("measureMachine() finds speeds of a real machine at every level", async () => {
  for (const level of await cpuLevels()) {
    const { flopsPerSecond, bytesPerSecond } = (await openCpu({ level, blas: "none" })).measureMachine();
    assert(flopsPerSecond > 1e8 && flopsPerSecond < 1e15, `${level}: ${flopsPerSecond} FLOP/s`);
    assert(bytesPerSecond > 1e7 && bytesPerSecond < 1e14, `${level}: ${bytesPerSecond} bytes/s`);
  }
});
