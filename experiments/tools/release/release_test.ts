/** `deno task release`: contracts, packages, materials and changes. */
import { assert, assertEquals, assertMatch, assertNotEquals, assertRejects, assertThrows } from "@std/assert";
import { run } from "../../../ffi/build/command.ts";
import { PREBUILT } from "../../../ffi/library/prebuilt_list.ts";
import { UsageError } from "../../../lib/errors.ts";
import { sha256 } from "../../../lib/sha256.ts";
import { inChild } from "../../../kernels/testing/child.ts";
import { NOT_ON_WINDOWS, unless } from "../../../lib/testing.ts";
import { listFolder, runTask, withFolder } from "../../commands/testing.ts";
import { readChangelog, renewContracts } from "./main.ts";
import {
  CONTRACTS,
  declarationsOf,
  describeEntry,
  formatContract,
  judgeContract,
  readContracts,
  simplify,
} from "./contracts.ts";
import { expectLicenses, isAllowed, listDependencies } from "./sbom.ts";
import { PINNED_ZIG, PLATFORMS, readPlatforms } from "./native.ts";
import { expectPortable, formatPrebuilt, neededGlibc, packNative } from "./packages.ts";

const ROOT = new URL("../../../", import.meta.url);
const FOLDER = new URL(".", import.meta.url).pathname.replace(/\/$/, "");
const read = (path: string) => Deno.readTextFile(new URL(path, ROOT));

Deno.test("the API, the C ABI and the study's file are those that are committed", async () => {
  const found = await readContracts(FOLDER);
  assertEquals(found.flatMap(({ judgement }) => judgement?.trouble ?? []), []);
  for (const { now, contract } of found) {
    assert(now.split("\n").length > 8, contract.name);
    assertEquals(/ fixed/.test(now.split("\n")[0]!), contract.isFixed, contract.name);
  }
});

Deno.test("a change of a contract is reported with its lines, and refused where its version is fixed and the same", () => {
  const abi = { name: "abi", home: "the header" },
    before = formatContract("6", true, ["op b", "op a", "op a"]);
  assertEquals(before, "version 6, fixed: a change needs another version\nop a\nop b\n");
  assertEquals(judgeContract(abi, before, before), undefined);
  const changed = judgeContract(abi, before, formatContract("6", true, ["op a", "op c"]))!;
  assert(changed.isRefused);
  assertMatch(
    changed.trouble,
    /abi differs .*\(1 lines gone, 1 new\); raise the version in the header, then .*\n {2}- op b\n {2}\+ op c$/,
  );
  for (
    const [then, now] of [
      [before, formatContract("7", true, ["op a", "op c"])], // another version
      [formatContract("0.1.0", false, ["op a"]), formatContract("0.1.0", false, ["op c"])], // not released
      [undefined, before], // new
    ] as const
  ) {
    assertEquals(judgeContract(abi, then, now)?.isRefused, false);
  }
});

Deno.test("release --renew writes reports, closes them on release, and refuses some changes", () =>
  withFolder(async (folder) => {
    await renewContracts(folder, false);
    for (const { name } of CONTRACTS) {
      assertEquals(
        await Deno.readTextFile(`${folder}/${name}.txt`),
        await read(`experiments/tools/release/${name}.txt`),
      );
    }
    await renewContracts(folder, true);
    const closed = await readContracts(folder);
    assertEquals(closed.flatMap(({ judgement }) => judgement ?? []), []);
    for (const { now } of closed) assertMatch(now, /^version \S+, fixed: /);
    // A line is removed from a released version, and from the study's file.
    for (const name of ["api", "study"]) {
      const path = `${folder}/${name}.txt`, text = await Deno.readTextFile(path), lines = text.split("\n");
      await Deno.writeTextFile(path, [lines[0], ...lines.slice(2)].join("\n"));
      await assertRejects(() => renewContracts(folder, false), UsageError, `${name} differs`);
      assertEquals((await Deno.readTextFile(path)).split("\n").length, lines.length - 1);
      await Deno.writeTextFile(path, text);
    }
  }));

Deno.test("contracts show types, members and declarations, and neither docs nor places", () => {
  const string = { repr: "string", kind: "keyword", value: "string" };
  const list = { repr: "Map", kind: "typeRef", value: { typeName: "Map", typeParams: [string] } };
  const params = [{ kind: "identifier", name: "x", optional: false, tsType: string, location: { line: 1 } }];
  assertEquals(simplify(params), [{ kind: "identifier", name: "x", tsType: "string" }]);
  assertEquals(simplify(list), {
    repr: "Map",
    kind: "typeRef",
    value: { typeName: "Map", typeParams: ["string"] },
  });
  const internal = { jsDoc: { tags: [{ kind: "internal" }] } };
  const methods = [
    { name: "a", params, jsDoc: { doc: "A." } },
    { name: "b", accessibility: "private" },
    { name: "c", ...internal },
  ];
  const def = { methods, isAbstract: false, extends: [string] };
  assertEquals(
    describeEntry(".", [
      { name: "C", declarations: [{ kind: "class", def }] },
      { name: "D", declarations: [{ kind: "class", def, ...internal }] },
    ]),
    [
      '. class C {"extends":["string"]}',
      '. class C.a (methods) {"name":"a","params":[{"kind":"identifier","name":"x","tsType":"string"}]}',
    ],
  );
  const text = `/* int32_t tkf_gone(void); */
#define TKF_A 1 /* one */
#define GUARD
TKF_OP(x,
  tkf_buffer a;   int64_t n;
)
TKF_API const char* tkf_text(void);`;
  assertEquals(declarationsOf(text), [
    "#define TKF_A 1",
    "TKF_OP(x, tkf_buffer a; int64_t n; )",
    "TKF_API const char* tkf_text(void);",
  ]);
});

Deno.test("a native package has the library, the header and its digest, and the same bytes each time", () =>
  withFolder(async (folder) => {
    const text = new TextEncoder().encode("GLIBC_2.2.5 GLIBC_2.34 GLIBC_2.9");
    const library = { bytes: text, abi: 6, levels: ["base", "avx2"], compiler: "zig 1" }, packed = [];
    for (const out of ["a", "b"]) {
      await Deno.mkdir(`${folder}/${out}`);
      packed.push(await packNative(`${folder}/${out}`, "linux-arm64", library, "1.2.3"));
    }
    const [first, second] = packed as [typeof packed[0], typeof packed[0]];
    assertEquals([first!.sha256, first!.glibc, first!.library], [second!.sha256, "2.34", await sha256(text)]);
    assertMatch(first!.path, /\/tokenfilter-native-linux-arm64-1\.2\.3\.tgz$/);
    assertEquals((await run("tar", ["xzf", first!.path, "-C", folder])).success, true);
    const description = JSON.parse(await Deno.readTextFile(`${folder}/package/package.json`));
    const files = await Array.fromAsync(Deno.readDir(`${folder}/package`), ({ name }) => name);
    assertEquals(files.sort(), ["LICENSE", "package.json", ...description.files].sort());
    assert(description.files.includes("tokenfilter_filter.h"));
    assertEquals(description.tokenfilter.levels, ["base", "avx2"]);
    assertEquals(description.tokenfilter.sha256, first!.library);
    assertEquals([description.os, description.cpu, description.libc], [["linux"], ["arm64"], ["glibc"]]);
    const other = { ...library, bytes: new Uint8Array(9) };
    const mac = await packNative(folder, "darwin-arm64", other, "1.2.3");
    assertNotEquals(mac.library, first!.library);
    const listed = await run("tar", ["tzf", mac.path]);
    assertMatch(listed.stdout, /^package\/libtokenfilter_cpu\.dylib$/m);
    assertEquals(neededGlibc(new Uint8Array(9)), undefined);
  }));

Deno.test("a library for release needs no newer glibc than its platform's, and no C++ library of the system", async () => {
  const check = (platform: string, text: string) => expectPortable(platform, new TextEncoder().encode(text));
  await check("linux-x64", "GLIBC_2.2.5 GLIBC_2.17");
  await assertRejects(() => check("darwin-arm64", "GLIBC_2.17"), UsageError, "darwin-arm64: found ");
  const refused = {
    "GLIBC_2.18": "found GLIBC_2.18, expected glibc 2.17 at most",
    "GLIBCXX_3.4": "found GLIBCXX_3.4",
  };
  for (const [text, message] of Object.entries(refused)) {
    await assertRejects(() => check("linux-x64", text), UsageError, message);
  }
  assertEquals(readPlatforms(undefined), ["linux-x64"]);
  assertEquals(readPlatforms("darwin-arm64"), ["darwin-arm64"]);
  assertThrows(
    () => readPlatforms("linux-x64,plan9"),
    UsageError,
    'build for "plan9": expected some of linux-x64, ',
  );
});

Deno.test("the package lists digests of libraries as release writes them", async () => {
  const text = await read("ffi/library/prebuilt_list.ts");
  assertEquals(text, formatPrebuilt(PREBUILT));
  for (const [platform, digest] of Object.entries(PREBUILT.libraries)) {
    assert(platform in PLATFORMS);
    assertMatch(digest, /^[0-9a-f]{64}$/);
  }
});

Deno.test("dependencies are the npm packages that published files import, at the versions of deno.json", () => {
  const imports = {
    "@a/b": "npm:@a/b@1.0.0",
    "c/wire": "npm:c@2.1.0/wire",
    "d/": "npm:/d@3.0.0/",
    "e": "npm:e@1.0.0",
    "@std/f": "jsr:@std/f@1.0.0",
  };
  const texts = [
    'import { b } from "@a/b";\nimport "c/wire";',
    'import.meta.resolve("d/x.js"); import "@std/f"; // e',
  ];
  assertEquals(listDependencies(imports, texts), { "@a/b": "1.0.0", "c": "2.1.0", "d": "3.0.0" });
});

Deno.test("licences of dependencies ask for no more than a notice", () => {
  for (const license of ["MIT", "(MIT OR GPL-3.0)", "MIT AND ISC", "Apache-2.0"]) {
    assert(isAllowed(license), license);
  }
  for (const license of ["GPL-3.0", "MIT AND GPL-3.0", "SEE LICENSE IN FILE"]) {
    assert(!isAllowed(license), license);
  }
  const named = (name: string, ...licenses: object[]) => ({ name, version: "1.0.0", licenses });
  const fine = [named("a", { license: { id: "MIT" } }), named("b", { expression: "(MIT OR GPL-3.0)" })];
  expectLicenses({ components: fine });
  assertThrows(
    () => expectLicenses({ components: [...fine, named("c", { license: { id: "GPL-3.0" } }), named("d")] }),
    UsageError,
    "found c@1.0.0 GPL-3.0, d@1.0.0 without a licence; expected MIT",
  );
});

Deno.test("the changes of a version have areas, and a version without them is refused", async () => {
  const { version } = JSON.parse(await read("deno.json"));
  assertMatch(readChangelog(await read("CHANGELOG.md"), version), /^### \w+\n\n- /);
  const text = "# Changes\n\n## 1.1.0\n\n### serve\n\n- one\n\n## 1.0.0\n\n- two\n";
  assertEquals(readChangelog(text, "1.1.0"), "### serve\n\n- one");
  assertThrows(() => readChangelog(text, "2.0.0"), UsageError, 'found no changes under "## 2.0.0"');
  assertThrows(() => readChangelog(text, "1.0.0"), UsageError, "under no area");
});

Deno.test("release publishes nothing by itself", async () => {
  const { code, stdout, stderr } = await runTask("release");
  assertEquals([code, stdout], [2, ""]);
  assertMatch(stderr, /^Cannot publish: expected --dry-run, which prints the commands that publish\n$/);
});

Deno.test({
  ...unless(NOT_ON_WINDOWS, "ensureZig() keeps what pip has fetched, and leaves nothing of a failure"),
  fn: () =>
    withFolder(async (folder) => {
      const cache = `${folder}/cache`;
      const pip = (script: string) =>
        Deno.writeTextFile(`${folder}/python3`, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
      const ensure = async () =>
        await inChild(
          { TOKENFILTER_CACHE: cache, PATH: `${folder}:${Deno.env.get("PATH")}` },
          `const { ensureZig } = await load("experiments/tools/release/native.ts"), said = [];
           const zig = await ensureZig((line) => said.push(line)).catch((error) => error.message);
           return [zig, said.length];`,
        ) as [string, number];
      await pip("echo no network >&2; exit 1");
      assertMatch((await ensure())[0], /no network/);
      assertEquals(listFolder(cache), []);
      await pip(`while [ "$1" != --target ]; do shift; done
mkdir "$2/ziglang"; printf '#!/bin/sh\\necho ${PINNED_ZIG.version}\\n' > "$2/ziglang/zig"; chmod +x "$2/ziglang/zig"`);
      const zig = `${cache}/ziglang-${PINNED_ZIG.version}/ziglang/zig`;
      assertEquals([await ensure(), await ensure()], [[zig, 1], [zig, 0]], "it is fetched once");
      assertEquals(listFolder(cache), [`ziglang-${PINNED_ZIG.version}`]);
    }),
});
