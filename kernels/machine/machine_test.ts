import { assert, assertMatch } from "@std/assert";
import { openCpu } from "../../ffi/mod.ts";
import { unless } from "../../lib/testing.ts";
import { testInEveryWay } from "../testing/ways.ts";

testInEveryWay("measureMachine() finds speeds of a machine", (ways) => {
  for (const { name, backend } of ways) {
    const { flopsPerSecond, bytesPerSecond } = backend.measureMachine();
    const least = backend.name === "cpu" ? 1e8 : 1e5; // the emulator is slow
    assert(flopsPerSecond > least && flopsPerSecond < 1e15, `${name}: ${flopsPerSecond} FLOP/s`);
    assert(bytesPerSecond > least / 10 && bytesPerSecond < 1e14, `${name}: ${bytesPerSecond} bytes/s`);
  }
});

const THP = "/sys/kernel/mm/transparent_hugepage/enabled";
const hasLargePages = Deno.build.os === "linux" && await Deno.stat(THP).then(() => true, () => false);

Deno.test({
  ...unless(
    !hasLargePages && "the system has no such pages",
    "hostMemory() is zero, and advised to lie in large pages where there is much of it",
  ),
  async fn() {
    using backend = await openCpu({ threads: 1 });
    const small = backend.hostMemory(1000), large = backend.hostMemory(16 * 2 ** 20);
    assert(small.length === 1000 && small.every((byte) => byte === 0));
    assert(large.every((byte) => byte === 0));
    const address = Deno.UnsafePointer.value(Deno.UnsafePointer.of(large)) + BigInt(large.length >> 1);
    const maps = (await Deno.readTextFile("/proc/self/smaps")).split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m);
    const own = maps.find((map) => {
      const [, begin, end] = /^([0-9a-f]+)-([0-9a-f]+)/.exec(map) ?? [];
      return begin !== undefined && BigInt(`0x${begin}`) <= address && address < BigInt(`0x${end}`);
    });
    assertMatch(own ?? "", /^VmFlags:.* hg\b/m);
  },
});
