import { assert, assertThrows } from "@std/assert";
import { RUNS_SLOW } from "../../lib/testing.ts";
import { KernelError } from "../../lib/errors.ts";
import { testInEveryWay } from "../testing/ways.ts";

testInEveryWay("measureMachine() finds speeds of a machine, of no device", (ways) => {
  // Each takes seconds: the fast tier has only the highest level.
  for (const { name, backend } of RUNS_SLOW ? ways : ways.slice(-2)) {
    if (backend.name === "cuda") {
      assertThrows(() => backend.measureMachine(), KernelError, "found a device, expected the CPU library");
      continue;
    }
    const { flopsPerSecond, bytesPerSecond } = backend.measureMachine();
    assert(flopsPerSecond > 1e8 && flopsPerSecond < 1e15, `${name}: ${flopsPerSecond} FLOP/s`);
    assert(bytesPerSecond > 1e7 && bytesPerSecond < 1e14, `${name}: ${bytesPerSecond} bytes/s`);
  }
});
