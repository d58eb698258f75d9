import {
  assert,
  assertAlmostEquals,
  assertEquals,
  assertMatch,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { inChild } from "../../kernels/testing/child.ts";
import { numbers, randomTensor, unwritten } from "../../kernels/testing/inputs.ts";
import { cacheDir } from "../../lib/cache.ts";
import { NativeLibraryError } from "../../lib/errors.ts";
import { f32Data } from "../../lib/tensor.ts";
import { findCompiler, run } from "../build/command.ts";
import { type CpuManifest, manifestPath } from "../cache.ts";
import { buildCommand, findBuild, findLibrary, loadLibrary } from "./library.ts";
import { sourceKey } from "./sources.ts";
import { cpuLevels, openCpu } from "../mod.ts";
import { ABI_VERSION } from "./abi.ts";
import { CUDA_SYMBOLS, SYMBOLS } from "./symbols.ts";
import { IN_SLOW_TIER, NEEDS_LINUX, NOT_ON_WINDOWS, testSlow, unless } from "../../lib/testing.ts";

/**
 * `threads()` in a child: numbers of the threads of the main thread's name, which those of a pool bear. Most of the
 * runtime's own bear others, but it may start one of that name at any time.
 */
const THREADS = `
  const nameOf = (task) => { try { return Deno.readTextFileSync(task + "/comm"); } catch { return ""; } };
  const own = nameOf("/proc/self");
  const threads = () => Array.from(Deno.readDirSync("/proc/self/task"), ({ name }) => name)
    .filter((name) => nameOf("/proc/self/task/" + name) === own);
  const since = (before) => threads().filter((thread) => !before.includes(thread));
  const left = (made) => threads().filter((thread) => made.includes(thread)).length;`;

const FIND =
  'const { findLibrary } = await load("ffi/library/library.ts"); return (await findLibrary("cpu")).path;';

Deno.test("buildCommand() names the build of the package that is in use", () => {
  for (
    const [root, target] of [
      ["https://jsr.io/@some/name/1.2.3/", "jsr:@some/name@1.2.3/build"],
      ["https://host/jsr.io/@some/name/1.2.3/", "https://host/jsr.io/@some/name/1.2.3/build.ts"],
      ["http://127.0.0.1:80/a%20b/", "http://127.0.0.1/a%20b/build.ts"],
      ["file:///some/folder/", "/some/folder/build.ts"],
      ["file:///a%20b/", '"/a b/build.ts"'],
    ]
  ) {
    assertEquals(buildCommand(" --cuda", `${root}ffi/library/library.ts`), `deno run -A ${target} --cuda`);
  }
});

Deno.test("findLibrary() names every place tried and the command where nothing is built", async () => {
  const cache = await Deno.makeTempDir();
  const { error } = await inChild({ TOKENFILTER_CACHE: cache }, FIND);
  for (const part of ["NativeLibraryError", "TOKENFILTER_LIBRARY", cache, buildCommand()]) {
    assertStringIncludes(error, part);
  }
  await Deno.remove(cache, { recursive: true });
});

Deno.test("findLibrary() takes the path given, then TOKENFILTER_LIBRARY, and says where nothing lies", async () => {
  const built = (await findLibrary("cpu")).path;
  assertEquals((await findLibrary("cpu", built)).path, await Deno.realPath(built));
  await assertRejects(
    () => findLibrary("cpu", "/no/such.so"),
    NativeLibraryError,
    '"/no/such.so" (the path given)',
  );
  assertEquals(await inChild({ TOKENFILTER_LIBRARY: built }, FIND), await Deno.realPath(built));
  const { error } = await inChild({ TOKENFILTER_LIBRARY: "/no/such.so" }, FIND);
  assertStringIncludes(error, '"/no/such.so" (TOKENFILTER_LIBRARY)');
});

Deno.test("findLibrary() refuses a library that differs from its digest, or is gone", async () => {
  const noted = manifestPath("cpu", await sourceKey("cpu")), build = (await findBuild<CpuManifest>("cpu"))!;
  const { library } = build.manifest, manifest = JSON.stringify(build.manifest);
  const bytes = await Deno.readFile(build.path);
  const cache = await Deno.makeTempDir();
  const find = () => inChild({ TOKENFILTER_CACHE: cache }, FIND);
  const copy = cache + noted.slice(cacheDir().length);
  await Deno.writeTextFile(copy, manifest);
  assertStringIncludes((await find()).error, "found no file");
  await Deno.writeFile(`${cache}/${library}`, bytes);
  assertEquals(await find(), `${cache}/${library}`);
  bytes[bytes.length >> 1]! ^= 1;
  await Deno.writeFile(`${cache}/${library}`, bytes);
  assertStringIncludes((await find()).error, "expected SHA-256");
  await Deno.writeTextFile(copy, manifest.slice(0, 40));
  assertStringIncludes((await find()).error, "nor a build of these sources");
  await Deno.remove(cache, { recursive: true });
});

Deno.test("loadLibrary() refuses what is no library", async () => {
  const path = await Deno.makeTempFile();
  await Deno.writeTextFile(path, "not a library");
  assertThrows(() => loadLibrary("cpu", path, SYMBOLS), NativeLibraryError, path);
  await Deno.remove(path);
});

Deno.test("loadLibrary() refuses another ABI version, and a library without all functions", async () => {
  const folder = await Deno.makeTempDir(), { command, args } = await findCompiler();
  let libraries = 0;
  /** A library of functions that all return `version`, but for the description of an op. */
  const build = async (names: readonly string[], version: number) => {
    const path = `${folder}/${libraries++}.so`;
    const functions = names.map((name) =>
      name === "tkf_abi_describe"
        ? `extern "C" const char* ${name}() { return "op tkf_gate_apply int64_t count;\\n"; }`
        : `extern "C" int ${name}() { return ${version}; }`
    );
    await Deno.writeTextFile(`${path}.cpp`, functions.join("\n"));
    const { success, stderr } = await run(command, [...args, "-shared", "-fPIC", `${path}.cpp`, "-o", path]);
    assert(success, stderr);
    return path;
  };
  for (const [library, symbols] of [["cpu", SYMBOLS], ["cuda", CUDA_SYMBOLS]] as const) {
    const names = [...Object.keys(symbols), "tkf_gate_apply"];
    const load = (path: string) => loadLibrary<Deno.ForeignLibraryInterface>(library, path, symbols);
    for (const version of [ABI_VERSION - 1, ABI_VERSION + 1]) {
      // A library of another version need not have today's functions.
      for (const known of [names, ["tkf_abi_version"]]) {
        const path = await build(known, version);
        const message = `Cannot use "${path}": found ABI version ${version}, expected ${ABI_VERSION}; run: `;
        assertThrows(() => load(path), NativeLibraryError, message);
      }
    }
    for (const name of ["tkf_blas_load", "tkf_gate_apply", "tkf_abi_describe"]) {
      const lacking = await build(names.filter((other) => other !== name), ABI_VERSION);
      assertThrows(() => load(lacking), NativeLibraryError, name);
    }
    const { symbols: functions, ops } = load(await build(names, ABI_VERSION));
    assert("tkf_blas_load" in functions);
    assertEquals([...ops.keys()], ["tkf_gate_apply"]);
  }
  await Deno.remove(folder, { recursive: true });
});

Deno.test("openCpu() refuses unknown levels, thread counts and a BLAS that is none", async () => {
  await assertRejects(
    () => openCpu({ level: "mmx" }),
    RangeError,
    '"level": found "mmx", expected one of base',
  );
  for (const threads of [0, -1, 1.5, NaN, 1025]) {
    await assertRejects(() => openCpu({ threads }), RangeError, "expected an integer from 1 to 1024");
  }
  await assertRejects(() => openCpu({ blas: "/no/such.so" }), NativeLibraryError, "TOKENFILTER_BLAS");
  await assertRejects(
    async () => openCpu({ blas: (await findLibrary("cpu")).path }),
    NativeLibraryError,
    "cblas_sgemm",
  );
});

Deno.test({
  ...unless(NOT_ON_WINDOWS, "openCpu({ build: true }) builds what is not there, once, and opens it"),
  fn: async () => {
    const folder = await Deno.makeTempDir(), CXX = `${folder}/c++`, TOKENFILTER_CACHE = `${folder}/cache`;
    const { path } = await findLibrary("cpu");
    await Deno.writeTextFile(
      CXX,
      `#!/bin/sh
if [ "$1" = --version ]; then echo "fake 1.0"; exit 0; fi
while [ $# -gt 0 ]; do if [ "$1" = -o ]; then cp "${path}" "$2"; fi; shift; done\n`,
      { mode: 0o755 },
    );
    const open = (build: boolean, library = "") =>
      inChild(
        { CXX, TOKENFILTER_CACHE, TOKENFILTER_BLAS: "none", TOKENFILTER_LIBRARY: library },
        `
        const { openCpu } = await load("ffi/mod.ts"), lines = [], onProgress = (line) => lines.push(line);
        using backend = await openCpu({ threads: 1, build: ${build}, onProgress });
        return { name: backend.name, lines };`,
      );
    const { name, lines: [why] } = await open(false);
    assertEquals(name, "wasm");
    assertStringIncludes(
      why,
      `nor a build of these sources in "${TOKENFILTER_CACHE}"; run: ${buildCommand()}. Going on`,
    );
    assertEquals(await open(true, path), { name: "cpu", lines: [] }); // nothing is built next to a library that is named
    assertEquals((await open(false)).name, "wasm");
    assertEquals((await open(true)).lines.length > 1, true);
    for (const build of [true, false]) assertEquals(await open(build), { name: "cpu", lines: [] });
    await Deno.remove(folder, { recursive: true });
  },
});

Deno.test("openCpu() describes itself in one line, and takes level and BLAS from the environment", async () => {
  const level = (await cpuLevels()).at(-1)!;
  const backend = await openCpu({ threads: 2, level, blas: "none" });
  assert(/^cpu: \S+, 2 threads, built-in matrix product$/.test(backend.description), backend.description);
  const open = (level: string) =>
    inChild(
      { TOKENFILTER_LEVEL: level, TOKENFILTER_BLAS: "none" },
      'const { openCpu } = await load("ffi/mod.ts"); return (await openCpu({ threads: 1 })).description;',
    );
  const { description } = await openCpu({ threads: 1, level, blas: "none" });
  assertEquals(await open(level), `${description} (TOKENFILTER_BLAS=none)`);
  assertMatch((await open("avx9")).error, /"avx9"/);
  const library = (await findLibrary("cpu")).path,
    named = await openCpu({ library, threads: 1, blas: "none" });
  assertMatch(named.description, / built-in matrix product \(library of the path given\)$/);
});

testSlow("openCpu() takes the lowest level from the environment", async () => {
  assertEquals((await cpuLevels())[0], "base");
  const description = await inChild(
    { TOKENFILTER_LEVEL: "base", TOKENFILTER_BLAS: "none" },
    'const { openCpu } = await load("ffi/mod.ts"); return (await openCpu({ threads: 1 })).description;',
  );
  assertMatch(
    description,
    /^cpu: (x86-64-v2|base), 1 thread, built-in matrix product \(TOKENFILTER_BLAS=none\)$/,
  );
});

Deno.test({
  ...unless(
    `${Deno.build.os}-${Deno.build.arch}` !== "linux-x86_64" && "needs /proc/cpuinfo of x86-64" ||
      IN_SLOW_TIER,
    "cpuLevels() are all that the processor has",
  ),
  fn: async () => {
    const flags = (await Deno.readTextFile("/proc/cpuinfo")).match(/^flags\s*: (.*)$/m)![1]!.split(" ");
    const has = (...names: string[]) => names.every((name) => flags.includes(name));
    const avx2 = has("avx2", "fma", "f16c"),
      avx512 = avx2 && has("avx512f", "avx512bw", "avx512dq", "avx512vl");
    assertEquals(await cpuLevels(), ["base", ...avx2 ? ["avx2"] : [], ...avx512 ? ["avx512"] : []]);
  },
});

Deno.test("every level has kernels of its own: each adds in an order of its own", async () => {
  const levels = await cpuLevels(), next = numbers(1);
  const x = randomTensor([1, 4096], next), weight = randomTensor([64, 4096], next);
  const sums = await Promise.all(levels.map(async (level) => {
    const out = unwritten([1, 64]);
    (await openCpu({ level, threads: 1, blas: "none" })).linear(x, weight, out);
    return f32Data(out).join();
  }));
  assertEquals(new Set(sums).size, levels.length);
});

Deno.test({
  ...unless(NEEDS_LINUX, "openCpu() ends a backend's threads once there is no reference to it"),
  fn: async () => {
    const { ended, description } = await inChild(
      {},
      `
      const { openCpu } = await load("ffi/mod.ts");
      (await import("node:v8")).setFlagsFromString("--expose-gc");
      const gc = (await import("node:vm")).runInNewContext("gc");
      ${THREADS}
      const kept = await openCpu({ threads: 2, blas: "none" }), before = threads();
      await openCpu({ threads: 100, blas: "none" });
      const made = since(before);
      for (let i = 0; i < 500 && made.length - left(made) < 99; i++) {
        gc();
        await new Promise((done) => setTimeout(done, 10));
      }
      return { ended: made.length - left(made), description: kept.description };`,
    );
    assert(ended >= 99, `${ended} of 99 threads ended`);
    assertMatch(description, /2 threads/);
  },
});

Deno.test({
  ...unless(NEEDS_LINUX, "openCpu() ends a backend's threads after `using`, and refuses any use then"),
  fn: async () => {
    const result = await inChild(
      {},
      `
      const { openCpu } = await load("ffi/mod.ts");
      ${THREADS}
      const before = threads();
      const backend = await openCpu({ threads: 100, blas: "none" });
      const made = since(before);
      backend[Symbol.dispose]();
      backend[Symbol.dispose]();
      // The kernel lists a thread for a moment after it was joined.
      for (let i = 0; i < 100 && made.length - left(made) < 99; i++) await new Promise((done) => setTimeout(done, 10));
      const x = backend.alloc("f32", [1, 1]);
      let message = "";
      try { backend.swiglu(x, x, x); } catch (error) { message = error.message; }
      return { ended: made.length - left(made), message };`,
    );
    assert(result.ended >= 99, `${result.ended} of 99 threads ended`);
    assertEquals(result.message, "Cannot use this backend: it was disposed");
  },
});

Deno.test("openCpu() works in Workers, and outlives one that was the first to open the library", async () => {
  const result = await inChild(
    {},
    `
    const source = \`
      const { openCpu } = await import("\${repository}ffi/mod.ts");
      const backend = await openCpu({ threads: 3, blas: "none" });
      self.onmessage = ({ data }) => {
        const x = { dtype: "f32", shape: [64, 4096], data: new Float32Array(64 * 4096).fill(data) };
        backend.swiglu(x, x, x);
        self.postMessage(x.data[99]);
      };
      self.postMessage("ready");\`;
    const message = (worker) => new Promise((done) => worker.onmessage = ({ data }) => done(data));
    const open = async () => {
      const worker = new Worker("data:application/javascript," + encodeURIComponent(source), { type: "module" });
      await message(worker);
      return worker;
    };
    const ask = (worker, number) => (worker.postMessage(number), message(worker));
    const [first, second] = [await open(), await open()];
    const answers = await Promise.all([ask(first, 0), ask(second, 1)]);
    first.terminate();
    second.terminate();
    await new Promise((done) => setTimeout(done, 50));
    const third = await open();
    answers.push(await ask(third, 1));
    third.terminate();
    const { openCpu } = await load("ffi/mod.ts");
    return [...answers, (await openCpu({ threads: 3, blas: "none" })).description.includes("3 threads")];`,
  );
  const silu = Math.fround(1 / (1 + Math.exp(-1)));
  assertEquals(result.length, 4);
  assertEquals(result[0], 0);
  assertAlmostEquals(result[1], silu, 1e-6);
  assertAlmostEquals(result[2], silu, 1e-6);
  assertEquals(result[3], true);
});

Deno.test({
  ...unless(NEEDS_LINUX, "a library that made a context stays loaded: its threads may outlive the handle"),
  fn: async () => {
    const loaded = await inChild(
      {},
      `
      const { findLibrary } = await load("ffi/library/library.ts"), { SYMBOLS } = await load("ffi/library/symbols.ts");
      const { path } = await findLibrary("cpu"), library = Deno.dlopen(path, SYMBOLS);
      library.symbols.tkf_context_create(4, 0, new BigUint64Array(1));
      library.close();
      return (await Deno.readTextFile("/proc/self/maps")).includes(path);`,
    );
    assertEquals(loaded, true);
  },
});
