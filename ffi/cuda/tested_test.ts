/** What `openCuda` uses by default after `test:gpu`: on the interpreter of PTX. */
import { assert, assertEquals } from "@std/assert";
import { inChild } from "../../kernels/testing/child.ts";
import { fakeTools } from "../build/fake_tools_testing.ts";
import { ptxLibrary, testOnPtx } from "./testing.ts";

testOnPtx(
  "openCuda() uses wgmma and dependent launches where a record says that this device, driver and build passed",
  async () => {
    const { folder, env } = await fakeTools("13.0.88", "");
    const stand = {
      ...env,
      LINKED: ptxLibrary(),
      TOKENFILTER_CUDA_LIBRARY: "",
      TOKENFILTER_CUBLASLT: "none",
      TOKENFILTER_GPU_TESTED: "",
    };
    const run = async (code: string) => {
      const found = await inChild(
        stand,
        `
        const { buildCuda } = await load("build.ts"), { openCuda } = await load("ffi/mod.ts");
        const { noteTested, testedBuild } = await load("ffi/cuda/tested.ts");
        const { openDriver } = await load("ffi/cuda/driver/driver.ts");
        const { path, manifest: { sha256 } } = await buildCuda({ archs: ["90a"] });
        Deno.env.set("TOKENFILTER_CUDA_DRIVER", path); // it is its own driver
        const { version } = openDriver(), device = openDriver().device(0);
        const uses = async (options = {}) => {
          using backend = await openCuda({ build: true, ...options });
          const { description } = backend;
          return ["wgmma", "dependent launches"].map((words) => description.includes(words));
        };
        const note = async (passed, own = {}) =>
          noteTested({ ...testedBuild(device, version, sha256), ...own }, passed);
        ${code}`,
      );
      assert(found.error === undefined, found.error);
      return found;
    };
    try {
      const none = [false, false], both = [true, true];
      const found = await run(`
        const found = [await uses()];
        for (const own of [{ library: "another" }, { driver: 13010 }, { device: "another" }]) await note(true, own);
        found.push(await uses());
        await note(true);
        found.push(await uses(), await uses({ wgmma: false }), await uses({ dependentLaunch: false }));
        Deno.env.set("TOKENFILTER_GPU_TESTED", "none");
        found.push(await uses(), await uses({ wgmma: true }));
        Deno.env.delete("TOKENFILTER_GPU_TESTED");
        await note(false);
        found.push(await uses());
        await note(true);
        return found;`);
      assertEquals(found, [none, none, both, [false, true], [true, false], none, [true, false], none]);
      assertEquals(await run("return await uses();"), both); // the record outlasts the process
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  },
  Deno.env.get("TKF_PTX_ARCH") !== "90a" && "needs sm_90: TKF_PTX_ARCH=90a",
);
