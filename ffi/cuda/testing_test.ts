import { assertEquals, assertMatch } from "@std/assert";
import { inChild } from "../../kernels/testing/child.ts";
import { openTestDevice, testOnDevice } from "./testing.ts";

testOnDevice(
  "the device of tests is one of CUDA, and uses wgmma and dependent launches where it has them",
  async (backend) => {
    const { memory } = await openTestDevice(), [, arch] = memory.description.match(/sm_(\d+)/)!;
    assertMatch(backend.description, /^cuda: /);
    assertEquals(backend.useWgmma(false), false);
    assertEquals(backend.useWgmma(true), arch === "90");
    assertEquals(backend.useDependentLaunch(true), Number(arch) >= 90);
    assertEquals([backend.useWgmma(false), backend.useDependentLaunch(false)], [false, false]);
  },
);

Deno.test("openTestDevice() takes the device that TOKENFILTER_TEST_DEVICE names, or says why it cannot", async () => {
  const open = (env: Record<string, string>) =>
    inChild(
      env,
      `const { openTestDevice } = await load("ffi/cuda/testing.ts");
       return (await openTestDevice()).memory.description;`,
    );
  const cpu = await open({ TOKENFILTER_TEST_DEVICE: "cpu" });
  assertMatch(cpu.error, /^Error: Cannot open a device: needs a GPU, or nvcc: /);
  const none = await open({ TOKENFILTER_TEST_DEVICE: "cuda", TOKENFILTER_CUDA_DRIVER: "no-such-driver.so" });
  assertMatch(none.error, /^NativeLibraryError: Cannot use CUDA: found no driver .*no-such-driver\.so/);
  const strange = await open({ TOKENFILTER_TEST_DEVICE: "gpu" });
  assertEquals(
    strange.error,
    'RangeError: Cannot test on TOKENFILTER_TEST_DEVICE "gpu": expected one of cpu, wasm, cuda, ptx',
  );
});
