/** Native libraries of a release. The tests compile for minutes, so they follow each other in one file. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { run } from "../../../ffi/build/command.ts";
import { PREBUILT } from "../../../ffi/library/prebuilt_list.ts";
import { sourceKey } from "../../../ffi/library/sources.ts";
import { SYMBOLS } from "../../../ffi/library/symbols.ts";
import { sha256 } from "../../../lib/sha256.ts";
import { unless } from "../../../lib/testing.ts";
import { inChild } from "../../../kernels/testing/child.ts";
import { runTask, withFolder } from "../../commands/testing.ts";
import { AGREE, compareExamples } from "../../../ffi/embed/embed_testing.ts";
import { buildNative, ensureZig, PLATFORMS, readPlatforms, zigFor } from "./native.ts";
import { expectPortable } from "./packages.ts";

const ROOT = new URL("../../../", import.meta.url);
/** Why the compiler does not run here. */
const NO_ZIG = Deno.env.get("TOKENFILTER_TEST_RELEASE") !== "1" &&
    "needs TOKENFILTER_TEST_RELEASE=1, as .ci/run sets it" ||
  `${Deno.build.os}-${Deno.build.arch}` !== "linux-x86_64" && "needs x86-64 Linux";

Deno.test({
  ...unless(NO_ZIG, "release --dry-run leaves packages, SBOM, changes and digests of all"),
  fn: () =>
    withFolder(async (folder) => {
      const out = `${folder}/out`,
        { code, stdout, stderr } = await runTask("release", "--dry-run", "--out", out);
      assertEquals(code, 0, stderr);
      assertMatch(
        stdout,
        /^version \S+: \d+ files for JSR, \d+ dependencies, @tokenfilter\/native-linux-x64 for glibc 2\.17/,
      );
      const left = Array.from(Deno.readDirSync(out), ({ name }) => name).sort();
      const packages = left.filter((name) => name.endsWith(".tgz"));
      const expected = readPlatforms(undefined).map((platform) => `tokenfilter-native-${platform}`).sort();
      assertEquals(packages.map((name) => name.replace(/-\d+\.\d+\.\d+\.tgz$/, "")), expected);
      assertEquals(left.filter((name) => !packages.includes(name)), [
        "SHA256SUMS",
        "changelog.md",
        "jsr_files.sha256",
        "prebuilt_list.ts",
        "sbom.json",
      ]);
      const { bomFormat, components } = JSON.parse(await Deno.readTextFile(`${out}/sbom.json`));
      assertEquals(bomFormat, "CycloneDX");
      const names = components.map(({ group = "", name }: Record<string, string>) => `${group}/${name}`);
      assert(names.includes("@huggingface/tokenizers"), names.join());
      for (const [sums, cwd] of [["SHA256SUMS", out], ["jsr_files.sha256", ROOT]] as const) {
        const checked = await run("sha256sum", ["--check", "--quiet", `${out}/${sums}`], { cwd });
        assertEquals([checked.success, checked.stdout], [true, ""]);
      }
      // The list of the package is of these very bytes, unless the kernels have changed since.
      if (PREBUILT.sources !== await sourceKey("cpu")) {
        return assertMatch(stdout, /\n {2}cp \S+\/prebuilt_list\.ts /);
      }
      const { PREBUILT: made } = await import(`file://${out}/prebuilt_list.ts`);
      assertEquals(made, PREBUILT);
      assertMatch(stdout, /; to publish:\n( {2}npm publish .*\n)+ {2}deno publish\n/);
    }),
});

Deno.test({
  ...unless(
    NO_ZIG,
    "two builds of a library for release have the same bytes, the other one noted or with an empty cache",
  ),
  fn: () =>
    withFolder(async (folder) => {
      const platform = PLATFORMS["linux-x64"]!,
        { bytes } = await buildNative(platform, await ensureZig(() => {}));
      const noted = PREBUILT.sources === await sourceKey("cpu") ? PREBUILT.libraries["linux-x64"] : undefined;
      const second = noted ?? await inChild(
        { TOKENFILTER_CACHE: folder },
        `const { buildNative, ensureZig, PLATFORMS } = await load("experiments/tools/release/native.ts");
         const { sha256 } = await load("lib/sha256.ts"), zig = await ensureZig(() => {});
         return await sha256((await buildNative(PLATFORMS["linux-x64"], zig)).bytes);`,
      );
      assertEquals(second, await sha256(bytes));
    }),
});

Deno.test({
  ...unless(
    NO_ZIG,
    "the library of a release for darwin-arm64 is signed, needs old macOS only, and has every op",
  ),
  fn: async () => {
    const zig = await ensureZig(() => {}), build = () => buildNative(PLATFORMS["darwin-arm64"]!, zig);
    const { bytes } = await build();
    await expectPortable("darwin-arm64", bytes);
    // The linker gets other paths each time.
    assertEquals(await sha256((await build()).bytes), await sha256(bytes));
    const { library: { ops } } = await import("../../../ffi/library/abi_testing.ts");
    const path = await Deno.makeTempFile({ suffix: ".dylib" });
    await Deno.writeFile(path, bytes);
    const { stdout } = await run("llvm-objdump", ["--macho", "--exports-trie", path]);
    await Deno.remove(path);
    const named = Array.from(stdout.matchAll(/ _(tkf_\w+)$/gm), ([, name]) => name!);
    assertEquals(named.sort(), [...Object.keys(SYMBOLS), ...ops.keys()].sort());
  },
});

/** How programs of a platform run here; a reason where they do not. */
async function runnerOf(platform: string): Promise<readonly string[] | string> {
  if (NO_ZIG) return NO_ZIG;
  if (platform === "linux-x64") return [];
  const emulator = ["qemu-aarch64-static", "-L", "/usr/aarch64-linux-gnu"];
  const { success } = await run(emulator[0]!, [
    ...emulator.slice(1),
    `${emulator[2]}/lib/ld-linux-aarch64.so.1`,
    "--version",
  ]);
  return success ? emulator : "needs qemu-user-static and libc6-arm64-cross";
}

for (const [name, platform] of Object.entries(PLATFORMS).filter(([, { os }]) => os === "linux")) {
  const emulator = await runnerOf(name);
  Deno.test({
    ...unless(
      typeof emulator === "string" && emulator,
      `the library of a release for ${name} decides 100 ${AGREE}`,
    ),
    fn: async () => {
      const zig = await ensureZig(() => {}), { bytes: library } = await buildNative(platform, zig);
      const compiler = zigFor(platform, zig, "cc");
      await compareExamples(5, { library, compiler, emulator: emulator as readonly string[] });
    },
  });
}
