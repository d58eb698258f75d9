import { assertEquals, assertMatch } from "@std/assert";
import { inChild } from "../../kernels/testing/child.ts";
import { openEmulated, openTestDevice, testEmulated, testsOnGpu } from "./testing.ts";
import { unless } from "../../lib/testing.ts";

const onGpu = testsOnGpu();

Deno.test({
  ...unless(!onGpu && "needs a GPU: deno task test:gpu", "the CUDA kernels on a GPU"),
  fn: async () => {
    const { backend, memory, context } = await openTestDevice({ order: "shuffled" });
    assertMatch(memory.description, /sm_\d+/);
    assertMatch(backend.description, /^cuda: /);
    assertEquals("tkf_emulator_order" in context.library.symbols, false);
  },
});

testEmulated(
  "CudaBackend.useWgmma() says whether the device has it, and never turns on what it has not",
  async () => {
    const { backend } = await openTestDevice();
    assertEquals(backend.useWgmma(false), false);
    assertEquals(backend.useWgmma(true), onGpu ? /sm_90,/.test(backend.description) : true);
    assertEquals(backend.useWgmma(false), false);
  },
);

testEmulated(
  "CudaBackend.useWgmma() and useDependentLaunch() turn on what the device has",
  async () => {
    const { symbols } = await openEmulated();
    try {
      for (const [arch, has] of [[80, false], [90, true], [100, false], [0, true]] as const) {
        assertEquals(symbols.tkf_emulator_arch(arch), 0);
        const { backend } = await openEmulated();
        assertEquals(backend.useWgmma(true), has, `sm_${arch}`);
        assertEquals(backend.useDependentLaunch(true), arch !== 80, `sm_${arch}`);
      }
    } finally {
      symbols.tkf_emulator_arch(0);
    }
  },
  onGpu && "a GPU has one number",
);

testEmulated(
  "openTestDevice() takes the device that TOKENFILTER_TEST_DEVICE names, or says why it cannot",
  async () => {
    const open = (env: Record<string, string>) =>
      inChild(
        env,
        `const { openTestDevice } = await load("ffi/cuda/testing.ts");
       return (await openTestDevice()).memory.description;`,
      );
    if (!onGpu) assertEquals(await open({ TOKENFILTER_TEST_DEVICE: "" }), "emulated device");
    const none = await open({
      TOKENFILTER_TEST_DEVICE: "cuda",
      TOKENFILTER_CUDA_DRIVER: "no-such-driver.so",
    });
    assertMatch(none.error, /^NativeLibraryError: Cannot use CUDA: found no driver .*no-such-driver\.so/);
    const strange = await open({ TOKENFILTER_TEST_DEVICE: "gpu" });
    assertEquals(
      strange.error,
      'RangeError: Cannot test on TOKENFILTER_TEST_DEVICE "gpu": expected one of cpu, wasm, emulated, cuda, ptx',
    );
  },
);
