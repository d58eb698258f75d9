/** What `openCuda` uses by default after `test:gpu`: on a stand-in for the driver, with the emulated kernels. */
import { assert, assertEquals } from "@std/assert";
import { inChild } from "../../kernels/testing/child.ts";
import { NEEDS_LINUX, unless } from "../../lib/testing.ts";
import { buildEmulated } from "../build/emulated_testing.ts";
import { fakeTools } from "../build/fake_tools_testing.ts";
import * as driver from "./driver/fake_driver_testing.ts";
import { NO_EMULATOR } from "./testing.ts";

Deno.test({
  ...unless(
    NO_EMULATOR || NEEDS_LINUX,
    "openCuda() uses wgmma and dependent launches where a record says that this device, driver and build passed",
  ),
  fn: async () => {
    const { folder, env } = await fakeTools("13.0.88", "");
    const stand = {
      ...env,
      LINKED: (await buildEmulated()).path,
      TOKENFILTER_CUDA_DRIVER: driver.path,
      TOKENFILTER_CUDA_LIBRARY: "",
      TOKENFILTER_CUBLASLT: "none",
    };
    const run = async (code: string, own: Record<string, string> = {}) => {
      const found = await inChild(
        { ...stand, ...own },
        `
        const { openCuda } = await load("ffi/mod.ts");
        const { noteTested, testedBuild } = await load("ffi/cuda/tested.ts");
        const { openDriver } = await load("ffi/cuda/driver/driver.ts"), { findLibrary } = await load("ffi/library/library.ts");
        const uses = async (options = {}) => {
          using backend = await openCuda({ build: true, ...options });
          const { description } = backend;
          return ["wgmma", "dependent launches"].map((words) => description.includes(words));
        };
        const device = () => openDriver().device(0), version = () => openDriver().version;
        const library = async () => (await findLibrary("cuda")).manifest.sha256;
        ${code}`,
      );
      assert(found.error === undefined, found.error);
      return found;
    };
    try {
      const none = [false, false], both = [true, true];
      const found = await run(
        `
        const note = async (passed, sha256) => noteTested(testedBuild(device(), version(), sha256), passed);
        const found = [await uses()], sha256 = await library();
        await note(true, "another");
        found.push(await uses());
        await note(true, sha256);
        found.push(await uses(), await uses({ wgmma: false }), await uses({ dependentLaunch: false }));
        found.push(await uses({ device: 1 })); // it needs a run of its own
        Deno.env.set("TOKENFILTER_GPU_TESTED", "none");
        found.push(await uses(), await uses({ wgmma: true }));
        Deno.env.delete("TOKENFILTER_GPU_TESTED");
        await note(false, sha256);
        found.push(await uses());
        await note(true, sha256);
        return found;`,
        { FAKE_DEVICES: "2" },
      );
      assertEquals(found, [none, none, both, [false, true], [true, false], none, none, [true, false], none]);
      // So does another driver; the record outlasts the process.
      const uses = "return await uses();";
      assertEquals(await run(uses, { FAKE_VERSION: "13010" }), none);
      assertEquals(await run(uses), both);
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  },
});
