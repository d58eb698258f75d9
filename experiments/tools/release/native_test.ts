/** Native libraries of a release. The tests compile for minutes, so they follow each other in one file. */
import { fileURLToPath } from "node:url";
import { brotliCompressSync } from "node:zlib";
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { run } from "../../../ffi/build/command.ts";
import { PREBUILT } from "../../../ffi/library/prebuilt_list.ts";
import { sourceKey } from "../../../ffi/library/sources.ts";
import { SYMBOLS } from "../../../ffi/library/symbols.ts";
import { sha256 } from "../../../lib/sha256.ts";
import { unless } from "../../../lib/testing.ts";
import { inChild } from "../../../kernels/testing/child.ts";
import { listFolder, withFolder } from "../../commands/testing.ts";
import { AGREE, compareExamples } from "../../../ffi/embed/embed_testing.ts";
import { buildNative, ensureZig, PLATFORMS, zigFor } from "./native.ts";
import { buildWasm, formatBuilt, WASM } from "./wasm.ts";

const ROOT = new URL("../../../", import.meta.url);
/** Why the compiler does not run here. */
const NO_ZIG = Deno.env.get("TOKENFILTER_TEST_RELEASE") !== "1" &&
    "needs TOKENFILTER_TEST_RELEASE=1, as .ci/run sets it" ||
  `${Deno.build.os}-${Deno.build.arch}` !== "linux-x86_64" && "needs x86-64 Linux";
/** Whether the list of the package is of these kernels: they may have changed since the last release. */
const isListed = PREBUILT.sources === await sourceKey("cpu");

/** A test that compiles, with a fresh folder. */
const test = (name: string, fn: (folder: string) => Promise<void>, why: string | false = NO_ZIG) =>
  Deno.test({ ...unless(why, name), fn: () => withFolder(fn) });

test("release --dry-run leaves packages, SBOM, changes and digests of all", async (folder) => {
  const out = `${folder}/out`, main = fileURLToPath(new URL("main.ts", import.meta.url));
  const args = ["run", "-A", main, "--dry-run", "--out", out];
  const { success, stdout, stderr } = await run(Deno.execPath(), args, { cwd: ROOT });
  assert(success, stderr);
  assertMatch(
    stdout,
    /^version \S+: \d+ files for JSR, \d+ dependencies, @tokenfilter\/native-linux-x64 for glibc 2\.17/,
  );
  const [sums, , , , , archive, ...more] = listFolder(out), others = listFolder(out).slice(1, 5);
  assertEquals([sums, more], ["SHA256SUMS", []]);
  assertEquals(others, ["changelog.md", "jsr_files.sha256", "prebuilt_list.ts", "sbom.json"]);
  assertMatch(archive!, /^tokenfilter-native-linux-x64-\d+\.\d+\.\d+\.tgz$/);
  const { bomFormat, components } = JSON.parse(await Deno.readTextFile(`${out}/sbom.json`));
  assertEquals(bomFormat, "CycloneDX");
  const names = components.map(({ group = "", name }: Record<string, string>) => `${group}/${name}`);
  assert(names.includes("@huggingface/tokenizers"), names.join());
  for (const [sums, cwd] of [["SHA256SUMS", out], ["jsr_files.sha256", ROOT]] as const) {
    const checked = await run("sha256sum", ["--check", "--quiet", `${out}/${sums}`], { cwd });
    assertEquals([checked.success, checked.stdout], [true, ""]);
  }
  if (!isListed) return assertMatch(stdout, /\n {2}cp \S+\/prebuilt_list\.ts /);
  const { PREBUILT: made } = await import(`file://${out}/prebuilt_list.ts`);
  assertEquals(made, PREBUILT);
  assertMatch(stdout, /; to publish:\n( {2}npm publish .*\n)+ {2}deno publish\n/);
});

test("two builds of a library for release have the same bytes, the other one listed or with an empty cache", async (folder) => {
  const { bytes } = await buildNative(PLATFORMS["linux-x64"]!, await ensureZig(() => {}));
  const second = isListed ? PREBUILT.libraries["linux-x64"] : await inChild(
    { TOKENFILTER_CACHE: folder },
    `const { buildNative, ensureZig, PLATFORMS } = await load("experiments/tools/release/native.ts");
     const { sha256 } = await load("lib/sha256.ts"), zig = await ensureZig(() => {});
     return await sha256((await buildNative(PLATFORMS["linux-x64"], zig)).bytes);`,
  );
  assertEquals(second, await sha256(bytes));
});

test("the library of a release for darwin-arm64 is signed, needs old macOS only, and has every op", async (folder) => {
  const zig = await ensureZig(() => {}), build = () => buildNative(PLATFORMS["darwin-arm64"]!, zig);
  const { bytes } = await build(), path = `${folder}/library.dylib`;
  // The linker gets other paths each time.
  assertEquals(await sha256((await build()).bytes), await sha256(bytes));
  const { library: { ops } } = await import("../../../ffi/library/abi_testing.ts");
  await Deno.writeFile(path, bytes);
  const read = async (what: string) => (await run("llvm-objdump", ["--macho", what, path])).stdout;
  const headers = await read("--private-headers"), stdout = await read("--exports-trie");
  for (const expected of ["cmd LC_CODE_SIGNATURE", "minos 11.0\n"]) assertStringIncludes(headers, expected);
  const needs = Array.from(headers.matchAll(/ name (\/.*) \(offset/g), ([, path]) => path);
  assertEquals(needs, ["/usr/lib/dyld", "/usr/lib/libSystem.B.dylib"]);
  const named = Array.from(stdout.matchAll(/ _(tkf_\w+)$/gm), ([, name]) => name!);
  assertEquals(named.sort(), [...Object.keys(SYMBOLS), ...ops.keys()].sort());
});

const QEMU = ["qemu-aarch64-static", "-L", "/usr/aarch64-linux-gnu"] as const;
const hasQemu =
  (await run(QEMU[0], [...QEMU.slice(1), `${QEMU[2]}/lib/ld-linux-aarch64.so.1`, "--version"])).success;
for (const name of ["linux-x64", "linux-arm64"]) {
  const isOurs = name === "linux-x64";
  test(`the library of a release for ${name} decides 100 ${AGREE}`, async () => {
    const platform = PLATFORMS[name]!, zig = await ensureZig(() => {});
    const { bytes: library } = await buildNative(platform, zig);
    await compareExamples(5, {
      library,
      compiler: zigFor(platform, zig, "cc"),
      emulator: isOurs ? [] : QEMU,
    });
  }, NO_ZIG || !isOurs && !hasQemu && "needs qemu-user-static and libc6-arm64-cross");
}

Deno.test({
  ...unless(NO_ZIG, "the files of ffi/wasm are of these kernels, byte for byte, and small"),
  fn: async () => {
    const built = await buildWasm(await ensureZig(console.error));
    for (const [i, name] of Object.keys(WASM).entries()) {
      const committed = await Deno.readFile(new URL(`ffi/wasm/${name}`, ROOT)), bytes = built[i]!;
      assertEquals(
        await sha256(committed),
        await sha256(bytes),
        "run: deno run -A experiments/tools/release/main.ts --wasm",
      );
      const small = brotliCompressSync(bytes).length;
      assert(bytes.length < 1.1e6 && small < 150_000, `${name}: ${bytes.length} bytes, ${small} by brotli`);
    }
    assertEquals(await Deno.readTextFile(new URL("ffi/wasm/built.ts", ROOT)), await formatBuilt(built));
  },
});
