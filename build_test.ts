import { fileURLToPath } from "node:url";
import { assert, assertEquals, assertMatch } from "@std/assert";
import { buildCpu } from "./build.ts";
import { ABI_VERSION } from "./ffi/library/abi.ts";
import { findCompiler, run } from "./ffi/build/command.ts";
import { bestLevel } from "./ffi/build/cpu.ts";
import { LEVELS } from "./ffi/library/sources.ts";
import { openCpuLibrary } from "./ffi/library/library.ts";
import { cpuLevels } from "./ffi/mod.ts";
import { SYMBOLS } from "./ffi/library/symbols.ts";
import { inChild } from "./kernels/testing/child.ts";
import { IN_SLOW_TIER, NEEDS_LINUX, NOT_ON_WINDOWS, RUNS_SLOW, unless } from "./lib/testing.ts";

/**
 * Runs code in a process with an empty cache.
 *
 * @returns Its result, and the names of the files that it left in the cache.
 */
async function inEmptyCache(env: Record<string, string>, body: string) {
  const cache = await Deno.makeTempDir();
  const result = await inChild({ ...env, TOKENFILTER_CACHE: cache }, body);
  const left = Array.from(Deno.readDirSync(cache), ({ name }) => name).filter((name) =>
    name !== "build.lock"
  );
  await Deno.remove(cache, { recursive: true });
  return { result, left };
}

const BUILD = 'const { buildCpu } = await load("build.ts"); return await buildCpu();';
const BLAS = 'const { ensureBlas } = await load("build.ts"); return await ensureBlas();';

/** A stand-in for a compiler, so that no test compiles the kernels again. */
async function fakeCompiler(folder: string, script: string): Promise<string> {
  const path = `${folder}/c++`;
  await Deno.writeTextFile(path, `#!/bin/sh\n${script}\n`);
  await Deno.chmod(path, 0o755);
  return path;
}

Deno.test({
  ...unless(
    NOT_ON_WINDOWS,
    "buildCpu() finds the build of the test command, whole, without a warning from the compiler",
  ),
  fn: async () => {
    const messages: string[] = [];
    const { path, manifest, cached } = await buildCpu({ onProgress: (message) => messages.push(message) });
    assert(cached);
    assertEquals(messages, []);
    assert((await Deno.stat(path)).isFile);
    assertEquals(manifest.warnings, "");
    assertEquals(manifest.abi, ABI_VERSION);
    const known = LEVELS[Deno.build.arch]!, all = known.map(({ name }) => name);
    // The fast tier builds the best level of this machine alone, unless all were built before.
    const isWhole = RUNS_SLOW || manifest.levels.length > 1;
    assertEquals(manifest.levels, isWhole ? all : [await bestLevel(await findCompiler(), known)]);
    assertMatch(manifest.sha256, /^[0-9a-f]{64}$/);
    assert(path.includes(manifest.sha256.slice(0, 16)));
  },
});

Deno.test({
  ...unless(NEEDS_LINUX, "buildCpu() exports the functions of the C ABI and nothing else"),
  fn: async () => {
    const { path } = await buildCpu();
    const { stdout } = await new Deno.Command("nm", { args: ["-D", "--defined-only", path] }).output();
    const names = new TextDecoder().decode(stdout).trim().split("\n").map((line) => line.split(" ")[2]!);
    const { ops } = await openCpuLibrary(path);
    assertEquals(names.toSorted(), [...Object.keys(SYMBOLS), ...ops.keys()].toSorted());
  },
});

const HAS_OBJDUMP = await run("objdump", ["--version"]).then(({ success }) => success);

Deno.test({
  ...unless(
    NEEDS_LINUX || !HAS_OBJDUMP && "needs objdump" || IN_SLOW_TIER,
    "buildCpu(): the filter rounds each product before it adds, at every level; products and attention do not",
  ),
  fn: async () => {
    const { path } = await buildCpu({ level: "all" });
    const { stdout } = await run("objdump", ["-d", "--no-show-raw-insn", path]);
    const fused = new Set<string>(), filter = new Set<string>();
    let name = "";
    for (const line of stdout.split("\n")) {
      if (line.endsWith(">:")) name = line.slice(line.indexOf("<") + 1, -2);
      // Functions of the filter: its namespace, its bodies at each level, and functions of no level.
      if (/6filter\d|\dfilter_|^_ZNK?3tkf(?!.*(4base|4avx2|6avx512))/.test(name)) filter.add(name);
      if (/\tvfn?m(add|sub)|\tfn?m(add|sub|l[as])\b/.test(line)) fused.add(name);
    }
    assertEquals([...fused].filter((name) => filter.has(name)), []);
    for (const { name: level } of LEVELS[Deno.build.arch]!) {
      const ofLevel = [...filter].filter((name) => name.includes(`${level.length}${level}`));
      assert(ofLevel.length > 15, `${level}: ${ofLevel}`);
      const fuses = [...fused].some((name) => name.includes(`${level.length}${level}`));
      assertEquals(fuses, level !== "base" || Deno.build.arch === "aarch64", level);
    }
  },
});

Deno.test({
  ...unless(
    NOT_ON_WINDOWS,
    "buildCpu() and buildCuda() build from sources on the network, and say which they cannot fetch",
  ),
  fn: async () => {
    const folder = await Deno.makeTempDir();
    const CXX = await fakeCompiler(
      folder,
      `if [ "$1" = --version ]; then echo "fake 1.0"; exit 0; fi
while [ $# -gt 0 ]; do if [ "$1" = -o ]; then cat common/*.cpp include/*.h > "$2"; fi; shift; done`,
    );
    let gone = "none";
    await using server = Deno.serve(
      { port: 0, hostname: "127.0.0.1", onListen: () => {} },
      async (request) => {
        const { pathname } = new URL(request.url);
        if (new RegExp(`${gone}|/testing/`).test(pathname)) return new Response(null, { status: 404 });
        const headers = { "content-type": /\.ts$/.test(pathname) ? "application/typescript" : "text/plain" };
        return new Response(await Deno.readFile(new URL(`.${pathname}`, import.meta.url)), { headers });
      },
    );
    const address = `http://127.0.0.1:${server.addr.port}`;
    const body = `const { buildCpu, buildCuda } = await import("${address}/build.ts"), results = [];
      for (const build of [buildCpu, buildCuda]) {
        const level = "all", first = await build({ level }), second = await build({ level });
        results.push([first.cached, second.cached, first.manifest.git, first.manifest.abi]);
      }
      return results;`;
    await Deno.writeTextFile(
      `${folder}/nvcc`,
      '#!/bin/sh\necho "release 13.0, V13.0.88"\nfor last; do :; done\n[ "$1" = --version ] || : > "$last"\n',
      { mode: 0o755 },
    );
    const env = { CXX, DENO_DIR: `${folder}/deno`, PATH: `${folder}:${Deno.env.get("PATH")}` };
    const built = await inEmptyCache(env, body);
    assertEquals(built.result, [[false, true, null, ABI_VERSION], [false, true, null, ABI_VERSION]]);
    gone = "simd.h";
    const { result, left } = await inEmptyCache(env, body);
    assertMatch(
      result.error,
      /^NativeLibraryError: Cannot read http:.*simd\.h: found status 404, expected 200$/,
    );
    assertEquals(left, []);
    await Deno.remove(folder, { recursive: true });
  },
});

Deno.test("the build commands refuse what they do not know in one line, with exit code 2", async () => {
  const cases = [
    [
      "build.ts",
      "--fast",
      /^Cannot build: .*'--fast'.* expected some of --level, --all, --cuda, --arch, --force, --out \(see --help\)$/,
    ],
    [
      "build.ts",
      "--level sse",
      /^Cannot build the native library: found level "sse", expected one of .*, all$/,
    ],
    ["build.ts", "--all --level base", /^Cannot use --level: found --all with it$/],
    ["build.ts", "--arch 80", /^Cannot use --arch: expected --cuda with it$/],
    [
      "build.ts",
      "--out /dev/null/x",
      /^Cannot use --out "\/dev\/null\/x": .*; expected a folder that takes files$/,
    ],
    [
      "build.ts",
      "--cuda --arch 75",
      /^Cannot build the CUDA library: found architecture "75", expected some/,
    ],
    [
      "experiments/tools/build/main.ts",
      "--cuda --arch",
      /^Cannot build: Option '--arch <value>' argument missing/,
    ],
  ] as const;
  for (const [script, flags, line] of cases) {
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--no-lock", script, ...flags.split(" ")],
      cwd: new URL(".", import.meta.url),
      env: { TOKENFILTER_BLAS: "none" },
    }).output();
    assertEquals([code, stdout.length], [2, 0], flags); // nothing was begun
    assertMatch(new TextDecoder().decode(stderr).trimEnd(), line);
  }
});

Deno.test("the build commands say how they are used, and build nothing", async () => {
  for (const script of ["build.ts", "experiments/tools/build/main.ts"]) {
    for (const flag of ["--help", "-h"]) {
      const { success, stdout, stderr } = await run(
        Deno.execPath(),
        ["run", "-A", "--no-lock", script, flag],
        {
          cwd: fileURLToPath(new URL(".", import.meta.url)),
          env: { TOKENFILTER_CACHE: "/dev/null/none" },
        },
      );
      assertEquals([success, stderr], [true, ""]);
      assertMatch(stdout, /^Usage: deno .* \[flags\]\n\nBuilds the native library into the user's cache/);
      const flags = Array.from(stdout.matchAll(/^ {2}--(\w+)( [A-Z,]+)?\n {6}\S/gm), ([, name]) => name);
      assertEquals(flags.slice(0, 6), ["level", "all", "cuda", "arch", "force", "out"]);
      assertEquals([flags.length, flags.at(-1)], [7, "help"]);
    }
  }
});

Deno.test("buildCpu() names both compilers and the fix where there is none", async () => {
  const none = await inEmptyCache({ PATH: "/nonexistent" }, BUILD);
  assertMatch(
    none.result.error,
    /^NativeLibraryError: .*neither g\+\+ nor clang\+\+.*install g\+\+ or clang\+\+/,
  );
  assertEquals(none.left, []);
  const other = await inEmptyCache({ CXX: "no-such-compiler -v" }, BUILD);
  assertMatch(other.result.error, /CXX="no-such-compiler -v"/);
  const folder = await inEmptyCache({ CXX: "/" }, BUILD);
  assertMatch(folder.result.error, /^NativeLibraryError: .*CXX="\/", which does not run/);
});

Deno.test({
  ...unless(NOT_ON_WINDOWS, "buildCpu() passes on what a failing compiler says, and leaves nothing behind"),
  fn: async () => {
    const folder = await Deno.makeTempDir();
    const CXX = await fakeCompiler(
      folder,
      'if [ "$1" = --version ]; then echo "fake 1.0"; else echo "level.cpp:1: error: no" >&2; exit 1; fi',
    );
    const { result, left } = await inEmptyCache({ CXX }, BUILD);
    assertMatch(result.error, /^NativeLibraryError: .*the compiler failed on .*\n.*level\.cpp:1: error: no/);
    assertEquals(left, []);
    await Deno.remove(folder, { recursive: true });
  },
});

/**
 * Fails unless a first build is of the level asked for, and the next one of the machine's best.
 *
 * @param script The compiler's, in shell, where `folder` gets its calls, one per line.
 * @param levels An expression for the levels in the cache after the first build.
 */
async function buildsBest(script: (folder: string) => string, levels: string): Promise<void> {
  const folder = await Deno.makeTempDir();
  const CXX = await fakeCompiler(folder, `echo "$*" >> "${folder}/calls"\n${script(folder)}`);
  const { result } = await inEmptyCache(
    { CXX },
    `
    const { buildCpu } = await load("build.ts"), { cpuLevels, openCpu } = await load("ffi/mod.ts");
    const lowest = await buildCpu({ level: "base" }), levels = ${levels};
    const best = await buildCpu(), again = await buildCpu({ level: best.manifest.levels[0] });
    let error = "";
    await openCpu({ level: "none" }).catch(({ message }) => error = message);
    return { levels, best: best.manifest.levels, cached: [lowest.cached, best.cached, again.cached], error };`,
  );
  const machine = (await cpuLevels()).at(-1)!;
  assertEquals(result.best, [machine]);
  assertEquals(result.levels, ["base"]); // better than none; the next build is of the best level
  assertEquals(result.cached, [false, machine === "base", true]);
  assertMatch(result.error, /^Cannot use "level": found "none", expected one of base/);
  const calls = (await Deno.readTextFile(`${folder}/calls`)).split("\n");
  assertEquals(
    calls.filter((call) => call.includes("-c common/level.cpp")).length,
    machine === "base" ? 1 : 2,
  );
  await Deno.remove(folder, { recursive: true });
}

Deno.test({
  ...unless(NEEDS_LINUX, "buildCpu() builds what this machine runs best, where another level is there"),
  fn: async () => {
    const machine = (await cpuLevels()).at(-1)!;
    const best = LEVELS[Deno.build.arch]!.find(({ name }) => name === machine)!.code;
    const answers: Record<string, string> = {
      tkf_abi_version: String(ABI_VERSION),
      tkf_context_best_level: String(best),
      tkf_context_levels: "LEVELS",
    };
    const functions = Object.keys(SYMBOLS).map((name) =>
      `int ${name}(void) { return ${answers[name] ?? 0}; }`
    );
    // An object is empty, or contains the levels that the entry points are compiled with; the library answers with
    // them.
    await buildsBest((folder) => {
      Deno.writeTextFileSync(`${folder}/library.c`, functions.join("\n"));
      return `out= levels= objects=
for arg; do
  [ "$last" = -o ] && out=$arg
  case "$arg" in -DTKF_LEVELS=*) levels=\${arg#*=};; *.o) objects="$objects $arg";; esac
  last=$arg
done
case "$*" in
  *" -c "*) printf %s "$levels" > "$out";;
  *-shared*) exec gcc -shared -fPIC "-DLEVELS=$(cat $objects)" "${folder}/library.c" -o "$out";;
  *) exec g++ "$@";;
esac`;
    }, '["base"]');
  },
});

Deno.test({
  ...unless(
    NEEDS_LINUX || IN_SLOW_TIER, // it compiles two levels
    "buildCpu() builds what this machine runs best, from objects of another build; all levels serve",
  ),
  fn: () => buildsBest(() => 'exec g++ "$@" -O0', "await cpuLevels()"),
});

Deno.test({
  ...unless(
    NOT_ON_WINDOWS,
    "buildCpu() builds once, notes the compiler, and builds again for another compiler or by force",
  ),
  fn: async () => {
    const folder = await Deno.makeTempDir();
    // The file "version" contains its version; it writes that, instead of code, where -o points.
    const CXX = await fakeCompiler(
      folder,
      `version=$(cat "${folder}/version")
if [ "$1" = --version ]; then echo "fake $version"; exit 0; fi
while [ $# -gt 0 ]; do if [ "$1" = -o ]; then echo "$version" > "$2"; fi; shift; done`,
    );
    const { result, left } = await inEmptyCache(
      { CXX },
      `
      const { buildCpu } = await load("build.ts");
      const cached = [], version = (v) => Deno.writeTextFile("${folder}/version", v);
      const build = async (options) => {
        const built = await buildCpu({ level: "all", ...options }); // what is named is not loaded to see its levels
        cached.push(built.cached);
        return built;
      };
      await version("1.0");
      const first = await build();
      await build();
      await build({ force: true });
      await version("2.0");
      const second = await build();
      const contents = [await Deno.readTextFile(first.path), await Deno.readTextFile(second.path)];
      await Deno.writeTextFile(second.path, "spoiled");
      await build();
      return { cached, contents, compilers: [first.manifest.compiler, second.manifest.compiler] };`,
    );
    assertEquals(result, {
      cached: [false, true, false, false, false],
      // New content, new name: a program that has the first one loaded keeps it.
      contents: ["1.0\n", "2.0\n"],
      compilers: ["fake 1.0", "fake 2.0"],
    });
    assertEquals(left.length, 4); // the manifest, two libraries, and the folder of objects
    await Deno.remove(folder, { recursive: true });
  },
});

Deno.test({
  ...unless(
    NOT_ON_WINDOWS,
    "buildCpu() and ensureBlas() name a cache folder that takes no files, before they begin",
  ),
  fn: async () => {
    const folder = await Deno.makeTempDir();
    await Deno.writeTextFile(`${folder}/file`, "");
    const CXX = await fakeCompiler(folder, `echo "$*" >> "${folder}/calls"; echo "fake 1.0"`);
    const says = new RegExp(
      `Cannot write to the cache folder "${folder}/file/cache": .*; set TOKENFILTER_CACHE`,
    );
    const env = { CXX, TOKENFILTER_CACHE: `${folder}/file/cache`, PATH: "/nonexistent" };
    assertMatch((await inChild(env, BUILD)).error, says);
    assertEquals(await Deno.readTextFile(`${folder}/calls`), "--version\n");
    assertMatch((await inChild(env, BLAS)).reason, says);
    const homeless = { TOKENFILTER_CACHE: "", HOME: "", XDG_CACHE_HOME: "" };
    assertMatch((await inChild(homeless, BUILD)).error, /^UsageError: Cannot choose a cache folder/);
    await Deno.remove(folder, { recursive: true });
  },
});

Deno.test("ensureBlas() follows TOKENFILTER_BLAS, and says why there is no BLAS where pip fails", async () => {
  const none = await inEmptyCache({ TOKENFILTER_BLAS: "none" }, BLAS);
  assertEquals(none.result, { reason: "TOKENFILTER_BLAS=none" });
  const own = await inEmptyCache({ TOKENFILTER_BLAS: "/some/libopenblas.so" }, BLAS);
  assertEquals(own.result.path, "/some/libopenblas.so");
  const { result, left } = await inEmptyCache({ PATH: "/nonexistent" }, BLAS);
  assert(result.path === undefined || result.path.includes("openblas"), result.path);
  assertMatch(result.reason, /python3: found no program|pinned for/);
  assertEquals(left, []);
});

Deno.test({
  ...unless(
    `${Deno.build.os}-${Deno.build.arch}` !== "linux-x86_64" && "no BLAS is pinned for this machine",
    "ensureBlas() takes a package without the library in it as a reason, not as an error",
  ),
  fn: async () => {
    const folder = await Deno.makeTempDir();
    await Deno.writeTextFile(
      `${folder}/python3`,
      `#!/bin/sh
case "$*" in *"pip download"*) while [ "$1" != --dest ]; do shift; done; : > "$2/some.whl";; esac\n`,
    );
    await Deno.chmod(`${folder}/python3`, 0o755);
    const { result, left } = await inEmptyCache({ PATH: folder }, BLAS);
    assertMatch(result.reason, /pip: No such file.*libscipy_openblas\.so/);
    assertEquals(left, []);
    await Deno.remove(folder, { recursive: true });
  },
});
