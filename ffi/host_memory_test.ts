import { assert, assertMatch } from "@std/assert";
import { unless } from "../lib/testing.ts";
import { f32Data } from "../lib/tensor.ts";
import { openCpu } from "./mod.ts";

const THP = "/sys/kernel/mm/transparent_hugepage/enabled";
const hasLargePages = Deno.build.os === "linux" && await Deno.stat(THP).then(() => true, () => false);

Deno.test({
  ...unless(
    !hasLargePages && "the system has no such pages",
    "hostMemory() is zero; it and tensors are advised to lie in large pages where there is much of them",
  ),
  async fn() {
    using backend = await openCpu({ threads: 1 });
    const small = backend.hostMemory!(1000), large = backend.hostMemory!(16 * 2 ** 20);
    assert(small.length === 1000 && small.every((byte) => byte === 0));
    assert(large.every((byte) => byte === 0));
    await expectAdvised(large);
    await expectAdvised(f32Data(backend.alloc("f32", [4, 2 ** 20])));
  },
});

/** Checks that the system has noted the advice of large pages for some memory. */
async function expectAdvised(memory: ArrayBufferView<ArrayBuffer>): Promise<void> {
  const address = Deno.UnsafePointer.value(Deno.UnsafePointer.of(memory)) + BigInt(memory.byteLength >> 1);
  const maps = (await Deno.readTextFile("/proc/self/smaps")).split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m);
  const own = maps.find((map) => {
    const [, begin, end] = /^([0-9a-f]+)-([0-9a-f]+)/.exec(map) ?? [];
    return begin !== undefined && BigInt(`0x${begin}`) <= address && address < BigInt(`0x${end}`);
  });
  assertMatch(own ?? "", /^VmFlags:.* hg\b/m);
}
