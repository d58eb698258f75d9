import { assert } from "@std/assert";
import { RUNS_SLOW } from "../../lib/testing.ts";
import { testInEveryWay } from "../testing/ways.ts";

testInEveryWay("measureMachine() finds speeds of a machine", (ways) => {
  // Each takes seconds: the fast tier has only the highest level.
  for (const { name, backend } of RUNS_SLOW ? ways : ways.slice(-2)) {
    const { flopsPerSecond, bytesPerSecond } = backend.measureMachine();
    const least = backend.name === "cpu" ? 1e8 : 1e5; // the emulator is slow
    assert(flopsPerSecond > least && flopsPerSecond < 1e15, `${name}: ${flopsPerSecond} FLOP/s`);
    assert(bytesPerSecond > least / 10 && bytesPerSecond < 1e14, `${name}: ${bytesPerSecond} bytes/s`);
  }
});
