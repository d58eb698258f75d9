/** A release: contracts, packages, materials and changes. */
import { fileURLToPath } from "node:url";
import { assert, assertEquals, assertMatch, assertNotEquals, assertRejects, assertThrows } from "@std/assert";
import { run } from "../../../ffi/build/command.ts";
import { PREBUILT } from "../../../ffi/library/prebuilt_list.ts";
import { UsageError } from "../../../lib/errors.ts";
import { sha256 } from "../../../lib/sha256.ts";
import { withFolder } from "../../commands/testing.ts";
import { command, readChangelog, renewContracts } from "./main.ts";
import { CONTRACTS, findTrouble, formatContract, isRefused, readContracts } from "./contracts.ts";
import { listDependencies } from "./sbom.ts";
import { PLATFORMS, readPlatforms } from "./native.ts";
import { expectPortable, formatPrebuilt, neededGlibc, packNative } from "./packages.ts";

const ROOT = new URL("../../../", import.meta.url);
const FOLDER = fileURLToPath(new URL(".", import.meta.url)).replace(/\/$/, "");
const read = (path: string) => Deno.readTextFile(new URL(path, ROOT));

Deno.test("the API, the C ABI and the study's file are those that are committed", async () => {
  for (const found of await readContracts(FOLDER)) {
    const { committed, now, contract } = found;
    assertEquals(committed.split("\n"), now.split("\n"), findTrouble(found));
    assert(now.split("\n").length > 8, contract.name);
    assertEquals(/ fixed/.test(now.split("\n")[0]!), contract.isFixed, contract.name);
  }
});

Deno.test("a change of a contract is refused where its version is fixed and the same", () => {
  const before = formatContract("6", true, ["op b", "op a", "op a"]);
  assertEquals(before, "version 6, fixed: a change needs another version\nop a\nop b\n");
  for (
    const [then, now, refused] of [
      [before, before, false],
      [before, formatContract("6", true, ["op a", "op c"]), true],
      [before, formatContract("7", true, ["op a", "op c"]), false],
      [formatContract("1", false, ["op a"]), formatContract("1", false, ["op c"]), false], // not released
      ["", before, false], // new
    ] as const
  ) {
    assertEquals(isRefused(then, now), refused, now);
  }
});

Deno.test("release --renew writes reports, closes them on release, and refuses some changes", () =>
  withFolder(async (folder) => {
    const texts = () => Promise.all(CONTRACTS.map(({ name }) => Deno.readTextFile(`${folder}/${name}.txt`)));
    await renewContracts(folder, false);
    assertEquals(await texts(), (await readContracts(FOLDER)).map(({ now }) => now));
    await renewContracts(folder, true);
    for (const text of await texts()) assertMatch(text, /^version \S+, fixed: /);
    const closed = await texts();
    await renewContracts(folder, false);
    assertEquals(await texts(), closed);
    // A line is removed from a released version, and from the study's file.
    for (const name of ["api", "study"]) {
      const path = `${folder}/${name}.txt`, text = await Deno.readTextFile(path), lines = text.split("\n");
      const shorter = [lines[0], ...lines.slice(2)].join("\n");
      await Deno.writeTextFile(path, shorter);
      await assertRejects(() => renewContracts(folder, false), UsageError, `${name} differs`);
      assertEquals(await Deno.readTextFile(path), shorter);
      await Deno.writeTextFile(path, text);
    }
  }));

Deno.test("a native package has the library, the header and its digest, and the same bytes each time", () =>
  withFolder(async (folder) => {
    const bytes = new TextEncoder().encode("GLIBC_2.2.5 GLIBC_2.34 GLIBC_2.9");
    const library = { bytes, abi: 6, levels: ["base", "avx2"], compiler: "zig 1" };
    const pack = async (out: string) => {
      await Deno.mkdir(`${folder}/${out}`);
      return await packNative(`${folder}/${out}`, "linux-arm64", library, "1.2.3");
    };
    const first = await pack("a"), second = await pack("b");
    assertEquals([first.sha256, first.glibc, first.library], [second.sha256, "2.34", await sha256(bytes)]);
    assertMatch(first.path, /\/tokenfilter-native-linux-arm64-1\.2\.3\.tgz$/);
    assertEquals((await run("tar", ["xzf", first.path, "-C", folder])).success, true);
    const { files, tokenfilter, os, cpu, libc } = JSON.parse(
      await Deno.readTextFile(`${folder}/package/package.json`),
    );
    const packed = await Array.fromAsync(Deno.readDir(`${folder}/package`), ({ name }) => name);
    assertEquals(packed.sort(), ["LICENSE", "package.json", ...files].sort());
    assert(files.includes("tokenfilter_filter.h"));
    assertEquals([tokenfilter.levels, tokenfilter.sha256], [["base", "avx2"], first.library]);
    assertEquals([os, cpu, libc], [["linux"], ["arm64"], ["glibc"]]);
    const mac = await packNative(folder, "darwin-arm64", { ...library, bytes: new Uint8Array(9) }, "1.2.3");
    assertNotEquals(mac.library, first.library);
    assertMatch((await run("tar", ["tzf", mac.path])).stdout, /^package\/libtokenfilter_cpu\.dylib$/m);
    assertEquals(neededGlibc(new Uint8Array(9)), undefined);
  }));

Deno.test("a library for release needs no newer glibc than its platform's, and no C++ library of the system", async () => {
  const check = (text: string) => expectPortable("linux-x64", new TextEncoder().encode(text));
  check("GLIBC_2.2.5 GLIBC_2.17");
  assertThrows(() => check("GLIBC_2.18"), UsageError, "found GLIBC_2.18, expected glibc 2.17");
  assertThrows(() => check("GLIBCXX_3.4"), UsageError, "found GLIBCXX_3.4");
  assertEquals([readPlatforms(undefined), readPlatforms("darwin-arm64")], [["linux-x64"], ["darwin-arm64"]]);
  assertThrows(
    () => readPlatforms("linux-x64,plan9"),
    UsageError,
    'build for "plan9": expected some of linux-x64, ',
  );
  assertEquals(await read("ffi/library/prebuilt_list.ts"), formatPrebuilt(PREBUILT));
  for (const [platform, digest] of Object.entries(PREBUILT.libraries)) {
    assert(platform in PLATFORMS && /^[0-9a-f]{64}$/.test(digest), platform);
  }
});

Deno.test("dependencies are the npm packages that published files import", () => {
  const imports = {
    "@a/b": "npm:@a/b@1.0.0",
    "c/wire": "npm:c@2.1.0/wire",
    "d/": "npm:/d@3.0.0/",
    "e": "npm:e@1.0.0",
    "@std/f": "jsr:@std/f@1.0.0",
  };
  const texts = ['import "@a/b";\nimport "c/wire";', 'import.meta.resolve("d/x.js"); import "@std/f"; // e'];
  assertEquals(listDependencies(imports, texts), { "@a/b": "1.0.0", "c": "2.1.0", "d": "3.0.0" });
});

/** Licences that ask for no more than a notice. */
const ALLOWED = /^(MIT|ISC|Apache-2\.0|BSD-[23]-Clause|0BSD|BlueOak-1\.0\.0|Unlicense)$/;

Deno.test("all packages of the lock, those of a release too, ask for no more than a notice", async () => {
  const { npmCache } = JSON.parse((await run(Deno.execPath(), ["info", "--json"], { cwd: ROOT })).stdout);
  const folders = Array.from(Deno.readDirSync(npmCache), ({ name }) => `${npmCache}/${name}`);
  const found: string[] = [];
  for (const id of Object.keys(JSON.parse(await read("deno.lock")).npm)) {
    const [, name, version] = id.match(/^(.+?)@([^_]+)/)!; // its peers follow the version
    for (const folder of folders) {
      const text = await Deno.readTextFile(`${folder}/${name}/${version}/package.json`).catch(() =>
        undefined
      );
      if (text !== undefined) found.push(`${name} ${JSON.parse(text).license}`);
    }
  }
  assert(found.length > 10, `${found}`);
  // A choice may name others too.
  const isAllowed = (license: string) =>
    license.replace(/^\((.*)\)$/, "$1").split(" OR ").some((own) =>
      own.split(" AND ").every((one) => ALLOWED.test(one))
    );
  assertEquals(found.filter((own) => !isAllowed(own.replace(/^\S+ /, ""))), []);
});

Deno.test("a version needs changes, and nothing is published by itself", async () => {
  const text = "# Changes\n\n## 1.1.0\n\n### serve\n\n- one\n\n## 1.0.0\n\n- two\n";
  assertEquals(readChangelog(text, "1.1.0"), "### serve\n\n- one");
  assertThrows(() => readChangelog(text, "2.0.0"), UsageError, 'found no changes under "## 2.0.0"');
  assert(readChangelog(await read("CHANGELOG.md"), JSON.parse(await read("deno.json")).version).length > 0);
  await assertRejects(() => command.main([]), UsageError, "Cannot publish: expected --dry-run");
});
