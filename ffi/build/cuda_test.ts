import { assert, assertEquals, assertMatch } from "@std/assert";
import { inChild } from "../../kernels/testing/child.ts";
import { buildCommand } from "../library/library.ts";
import { CUDA_ARCHS } from "../library/sources.ts";
import { NO_PTX, ptxLibrary } from "../cuda/testing.ts";
import { fakeTools } from "./fake_tools_testing.ts";
import { buildArchOf } from "../cuda/mod.ts";
import { oldestDriver } from "./nvcc.ts";
import { NEEDS_LINUX, unless } from "../../lib/testing.ts";

const SPILLS = `ptxas info    : Compiling entry function 'rope' for 'sm_80'
ptxas info    : Function properties for rope
    0 bytes stack frame, 4 bytes spill stores, 4 bytes spill loads
ptxas info    : Used 40 registers
`;
const BUILD = `
  const { buildCuda } = await load("build.ts");
  const messages = [];
  const { cached, manifest } = await buildCuda({ onProgress: (message) => messages.push(message), ...OPTIONS });
  return { cached, abi: manifest.abi, archs: manifest.archs, kernels: manifest.kernels, driver: manifest.oldestDriver, messages };`;
const build = (options: object) => BUILD.replace("OPTIONS", JSON.stringify(options));

Deno.test({
  ...unless(
    NEEDS_LINUX,
    "buildCuda() compiles for what it is asked for, notes each kernel's registers, and builds once",
  ),
  fn: async () => {
    const { folder, env } = await fakeTools("13.0.88", SPILLS.replaceAll("4 bytes", "0 bytes"));
    const first = await inChild(env, build({}));
    assertEquals([first.cached, first.archs, first.driver], [false, [...CUDA_ARCHS], "580.65.06"]);
    const header = await Deno.readTextFile(new URL("../../kernels/include/tokenfilter.h", import.meta.url));
    assertEquals(`#define TKF_ABI_VERSION ${first.abi}`, header.match(/^#define TKF_ABI_VERSION .*/m)![0]);
    const rope = {
      symbol: "rope",
      arch: "sm_80",
      registers: 40,
      sharedBytes: 0,
      stackBytes: 0,
      spillBytes: 0,
    };
    assertEquals(first.kernels, [rope]);
    const calls = await Deno.readTextFile(`${folder}/calls`);
    assertMatch(
      calls,
      /arch=compute_80,code=\[sm_80,compute_80\].*compute_90a,code=sm_90a.*-c rope\/rope\.cu/,
    );
    assertMatch(calls, /-shared -cudart=static .*--version-script=exports/);
    // A part of the built architectures needs no build, another selection does.
    assertEquals((await inChild(env, build({ archs: ["90a"] }))).cached, true);
    assertEquals((await inChild(env, build({ archs: ["90a"], force: true }))).archs, ["90a"]);
    assertEquals((await inChild(env, build({ archs: ["80"] }))).cached, false);
    // Objects outlive their library, and those that nothing has used for long go.
    const list = async (place: string) =>
      (await Array.fromAsync(Deno.readDir(place))).map(({ name }) => name);
    const cache = `${folder}/cache`, before = await list(`${cache}/objects`), long = new Date("2020-01-01");
    for (const name of before) await Deno.utime(`${cache}/objects/${name}`, long, long);
    for (const name of await list(cache)) if (name !== "objects") await Deno.remove(`${cache}/${name}`);
    const compiled = async () => (await Deno.readTextFile(`${folder}/calls`)).match(/ -c /g)!.length;
    const times = await compiled();
    assertEquals((await inChild(env, build({ archs: ["80"] }))).cached, false);
    const kept = await list(`${cache}/objects`);
    assertEquals([await compiled(), kept.length], [times, before.length / 3]); // of three selections
    const { error } = await inChild(env, build({ archs: ["75"] }));
    assertMatch(error, /^RangeError: .*found architecture "75", expected some of 80, 86/);
    await Deno.remove(folder, { recursive: true });
  },
});

Deno.test({
  ...unless(
    NEEDS_LINUX,
    "buildCuda() refuses kernels that use local memory or lose speed with the pinned nvcc, and warns with another",
  ),
  fn: async () => {
    const pinned = await fakeTools("13.0.88", SPILLS);
    const { error } = await inChild(pinned.env, build({}));
    assertMatch(
      error,
      /^NativeLibraryError: .*kernels use local memory:\nrope for sm_80: 8 bytes of spills with 40 registers, 0 of arrays$/,
    );
    const other = await fakeTools("12.9.41", SPILLS);
    const { messages, driver } = await inChild(other.env, build({}));
    assertEquals(driver, "525.60.13");
    const strict = "-Werror=all-warnings"; // warnings of another nvcc are reported, and are no failure
    assert((await Deno.readTextFile(`${pinned.folder}/calls`)).includes(strict));
    assert(!(await Deno.readTextFile(`${other.folder}/calls`)).includes(strict));
    const warns = await fakeTools("12.9.41", "rope.cu(3): warning #177-D: declared and never used\n");
    assertEquals(
      (await inChild(warns.env, build({}))).messages.filter((m: string) => m.startsWith("warning")),
      [
        "warning: nvcc warns 1 times, first: rope.cu(3): warning #177-D: declared and never used",
      ],
    );
    assert(
      messages.some((message: string) => /^warning: kernels use local memory/.test(message)),
      messages.join("\n"),
    );
    const arrays = await fakeTools(
      "13.0.88",
      SPILLS.replaceAll("4 bytes", "0 bytes").replace("0 bytes stack", "32 bytes stack"),
    );
    assertMatch((await inChild(arrays.env, build({}))).error, /\nrope for sm_80: 0 bytes .* 32 of arrays$/);
    const serial = await fakeTools(
      "13.0.88",
      "ptxas info    : (C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized\n",
    );
    assertMatch((await inChild(serial.env, build({}))).error, /kernels lose speed:\n.* are serialized$/);
    for (const { folder } of [pinned, other, arrays, serial, warns]) {
      await Deno.remove(folder, { recursive: true });
    }
  },
});

Deno.test({
  ...unless(NEEDS_LINUX, "buildCuda() passes over an nvcc that is too old, and names it where pip has none"),
  fn: async () => {
    const { folder, env } = await fakeTools("12.4.99", "");
    const named = await inChild({ ...env, TOKENFILTER_NVCC: `${folder}/bin/nvcc` }, build({}));
    assertMatch(
      named.error,
      /^NativeLibraryError: .*TOKENFILTER_NVCC ".*" of 12\.4\.99, expected 12\.8 or later$/,
    );
    const absent = await inChild({ ...env, TOKENFILTER_NVCC: "/no/nvcc" }, build({}));
    assertMatch(absent.error, /^NativeLibraryError: .*TOKENFILTER_NVCC "\/no\/nvcc", not an nvcc that runs$/);
    const python = `#!/bin/sh
for word; do
  if [ "$before" = --target ]; then : > "$word/part"; fi
  before=$word
done
echo "no such index" >&2
exit 1
`;
    await Deno.writeTextFile(`${folder}/bin/python3`, python);
    await Deno.chmod(`${folder}/bin/python3`, 0o755);
    const old = await inChild(env, build({}));
    assertMatch(
      old.error,
      /^NativeLibraryError: .*found nvcc 12\.4\.99 in PATH \(expected 12\.8 or later\), and pip.*: no such index$/,
    );
    // It is taken for architectures that it supports, and a newer one from elsewhere for others.
    const fresh = await fakeTools("13.0.88", "");
    assertEquals((await inChild(env, build({ archs: ["80"] }))).archs, ["80"]);
    assertEquals((await inChild({ ...env, CUDA_HOME: fresh.folder }, build({}))).archs.length, 6);
    await Deno.remove(`${folder}/bin/nvcc`);
    await Deno.remove(`${folder}/cache`, { recursive: true });
    const none = await inChild({ ...env, PATH: `${folder}/bin` }, build({}));
    assertMatch(
      none.error,
      /^NativeLibraryError: .*no nvcc in PATH, CUDA_HOME or .*, and pip.*: no such index$/,
    );
    assertEquals(Array.from(Deno.readDirSync(`${folder}/cache`), ({ name }) => name), ["build.lock"]);
    await Deno.remove(fresh.folder, { recursive: true });
    await Deno.remove(folder, { recursive: true });
  },
});

Deno.test({
  ...unless(
    NO_PTX,
    "openCuda({ build: true }) builds for the device at hand, once, and opens it",
  ),
  fn: async () => {
    const { folder, env } = await fakeTools("13.0.88", "");
    const stand = {
      ...env,
      LINKED: ptxLibrary(), // the linker's output
      TOKENFILTER_CUDA_DRIVER: ptxLibrary(),
      TOKENFILTER_CUDA_LIBRARY: "",
      TOKENFILTER_CUBLASLT: "none",
    };
    const open = (build: boolean) =>
      inChild(
        stand,
        `
        const { openCuda } = await load("ffi/mod.ts"), lines = [], onProgress = (line) => lines.push(line);
        using backend = await openCuda({ build: ${build}, onProgress });
        return { name: backend.name, lines };`,
      );
    const { error } = await open(false);
    assert(error.endsWith(`; run: ${buildCommand(" --cuda")}`), error);
    const { name, lines } = await open(true);
    assertEquals(name, "cuda");
    assertMatch(lines[0], /^compiling \d+ files of the kernels, sm_(80|90a) with nvcc 13\.0\.88; once, /);
    for (const build of [true, false]) assertEquals(await open(build), { name, lines: [] });
    await Deno.remove(folder, { recursive: true });
  },
});

Deno.test({
  ...unless(
    NEEDS_LINUX,
    "buildCuda() builds with an nvcc of the driver's major version, or names what is missing",
  ),
  fn: async () => {
    const old = await fakeTools("12.4.99", ""), fresh = await fakeTools("13.0.88", "");
    const result = await inChild(old.env, build({ archs: ["90a"], driver: 12020 }));
    assertEquals([result.archs, result.driver], [["90a"], "525.60.13"]); // an old one supports an old device
    const { error } = await inChild(fresh.env, build({ archs: ["90a"], driver: 12040 }));
    assertMatch(
      error,
      /found nvcc 13\.0\.88 in PATH \(too new for the driver\), and a driver for CUDA 12\.4, expected nvcc of release 12, .*580\.65\.06 or later$/,
    );
    // A cached library for a newer driver is built again, by the compiler at hand.
    assertEquals((await inChild(fresh.env, build({ archs: ["90a"], driver: 13000 }))).cached, false);
    const env = { ...old.env, TOKENFILTER_CACHE: fresh.env.TOKENFILTER_CACHE! };
    assertEquals((await inChild(env, build({ archs: ["90a"], driver: 13010 }))).cached, true);
    assertEquals((await inChild(env, build({ archs: ["90a"], driver: 12040 }))).cached, false);
    // None at all: nothing is fetched that the driver does not run.
    await Deno.remove(`${fresh.folder}/bin/nvcc`);
    await Deno.writeTextFile(`${fresh.folder}/bin/python3`, "#!/bin/sh\necho fetched >&2\nexit 1\n", {
      mode: 0o755,
    });
    const bare = { ...fresh.env, PATH: `${fresh.folder}/bin` };
    assertMatch(
      (await inChild(bare, build({ archs: ["80"], driver: 12040 }))).error,
      /found no nvcc in PATH, CUDA_HOME or .*, and a driver for CUDA 12\.4, expected nvcc of release 12/,
    );
    assertMatch((await inChild(bare, build({ archs: ["80"], driver: 13000 }))).error, /: fetched$/);
    for (const { folder } of [old, fresh]) await Deno.remove(folder, { recursive: true });
  },
});

Deno.test({
  ...unless(NEEDS_LINUX, "buildCuda() fetches nvcc once where two first builds run at once"),
  fn: async () => {
    const { folder, env } = await fakeTools("13.0.88", ""), tools = `${folder}/bin`;
    await Deno.mkdir(`${folder}/hidden`);
    await Deno.rename(`${tools}/nvcc`, `${folder}/hidden/nvcc`);
    // The second build waits for the first one's lock, and finds its copy.
    const python = `#!/bin/sh
for word; do
  if [ "$before" = --target ]; then target=$word; fi
  before=$word
done
echo begun >> ${folder}/begun
mkdir -p "$target/nvidia/cu13/bin" && cp ${folder}/hidden/nvcc "$target/nvidia/cu13/bin"
`;
    await Deno.writeTextFile(`${tools}/python3`, python, { mode: 0o755 });
    const both = await Promise.all(["80", "90a"].map((arch) => inChild(env, build({ archs: [arch] }))));
    assertEquals(both.map(({ archs }) => archs), [["80"], ["90a"]]);
    const names = Array.from(Deno.readDirSync(`${folder}/cache`), ({ name }) => name);
    assertEquals(names.filter((name) => name.includes("nvcc-")).length, 1, names.join());
    assertEquals(await Deno.readTextFile(`${folder}/begun`), "begun\n");
    await Deno.remove(folder, { recursive: true });
  },
});

Deno.test("buildArchOf() gives a device's own code, that of a lower minor version, or PTX", () => {
  const devices = [80, 86, 87, 89, 90, 100, 103, 110, 120, 121, 75];
  const archs = ["80", "86", "86", "89", "90a", "100", "100", "80", "120", "120", "80"];
  assertEquals(devices.map(buildArchOf), archs);
});

Deno.test("oldestDriver() follows CUDA's major version", () => {
  assertEquals(oldestDriver("12.8.61"), "525.60.13");
  assertEquals(oldestDriver("13.0.88"), "580.65.06");
});
