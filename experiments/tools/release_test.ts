/** `deno task release`: contracts, packages, materials and changes. */
import { assert, assertEquals, assertMatch, assertNotEquals, assertRejects, assertThrows } from "@std/assert";
import { run } from "../../ffi/build/command.ts";
import { PREBUILT } from "../../ffi/prebuilt_list.ts";
import { UsageError } from "../../lib/errors.ts";
import { sha256 } from "../../lib/sha256.ts";
import { NOT_ON_WINDOWS, unless } from "../../lib/testing.ts";
import { listFolder, runTask, withFolder } from "../commands/testing.ts";
import { renewContracts } from "./release.ts";
import {
  CONTRACTS,
  declarationsOf,
  describeEntry,
  formatContract,
  judgeContract,
  readContracts,
  simplify,
} from "./release/contracts.ts";
import {
  expectLicenses,
  formatChanges,
  formatSbom,
  isAllowed,
  listMaterials,
  readChangelog,
} from "./release/materials.ts";
import { ensureZig, PINNED_ZIG, PLATFORMS, readPlatforms } from "./release/native.ts";
import { expectPortable, formatPrebuilt, neededGlibc, packNative } from "./release/packages.ts";
import { formatProvenance } from "./release/provenance.ts";

const ROOT = new URL("../../", import.meta.url);
const FOLDER = new URL("release", import.meta.url).pathname;
const read = (path: string) => Deno.readTextFile(new URL(path, ROOT));

Deno.test("the API, the C ABI, the study's file and JSON documents are those that are committed", async () => {
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
  await assertRejects(
    () => check("darwin-arm64", "GLIBC_2.17"),
    UsageError,
    "for macOS: found no dynamic library for arm64",
  );
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
  const text = await read("ffi/prebuilt_list.ts");
  assertEquals(text, formatPrebuilt(PREBUILT));
  for (const [platform, digest] of Object.entries(PREBUILT.libraries)) {
    assert(platform in PLATFORMS);
    assertMatch(digest, /^[0-9a-f]{64}$/);
  }
});

Deno.test("provenance names files, commit, compiler and locks, the same text each time", async () => {
  const text = await formatProvenance("1.2.3", [["a.tgz", "0a"]]);
  assertEquals(await formatProvenance("1.2.3", [["a.tgz", "0a"]]), text);
  const { _type, subject, predicateType, predicate } = JSON.parse(text);
  assertEquals([_type, predicateType], ["https://in-toto.io/Statement/v1", "https://slsa.dev/provenance/v1"]);
  assertEquals(subject, [{ name: "a.tgz", digest: { sha256: "0a" } }]);
  const { resolvedDependencies: inputs } = predicate.buildDefinition;
  assertMatch(inputs[0].digest.gitCommit, /^[0-9a-f]{40}$/);
  const ids = inputs.map(({ uri }: { uri: string }) => uri);
  assertEquals(ids.slice(1), [`pkg:pypi/ziglang@${PINNED_ZIG.version}`, "deno.lock", "deno.json"]);
  for (const { digest } of inputs.slice(1)) assertMatch(digest.sha256, /^[0-9a-f]{64}$/);
});

Deno.test("the SBOM has each locked package with version, digest and licence, the published package's own marked", async () => {
  const lock = await read("deno.lock"), { imports } = JSON.parse(await read("deno.json"));
  const sources = [
    'import.meta.resolve("plotly.js-cartesian-dist-min/plotly.js");',
    'import { Tokenizer } from "@huggingface/tokenizers";',
    'import { encode } from "@std/yaml/parse";',
  ];
  const materials = await listMaterials(lock, imports, sources, () => Promise.resolve("MIT"));
  const { npm } = JSON.parse(lock);
  assertEquals(
    materials.filter(({ type }) => type === "npm").length,
    new Set(Object.keys(npm).map((id) => id.split("_")[0])).size,
  );
  const required = materials.filter(({ isRequired }) => isRequired).map(({ name }) => name);
  assertEquals(required, ["@huggingface/tokenizers", "@std/yaml", "plotly.js-cartesian-dist-min"]);
  const sbom = JSON.parse(formatSbom("1.2.3", materials));
  assertEquals([sbom.bomFormat, sbom.specVersion, sbom.metadata.component.version], [
    "CycloneDX",
    "1.6",
    "1.2.3",
  ]);
  const refs: string[] = sbom.components.map((component: { "bom-ref": string }) => component["bom-ref"]);
  assertEquals(new Set(refs).size, refs.length);
  assert(
    refs.includes(
      `pkg:npm/%40huggingface/tokenizers@${imports["@huggingface/tokenizers"].split("@").at(-1)}`,
    ),
  );
  for (const { hashes, purl, licenses } of sbom.components) {
    if (!purl.startsWith("pkg:jsr/")) assertMatch(hashes[0].content, /^([0-9a-f]{64}|[0-9a-f]{128})$/, purl);
    assertEquals(licenses.length, 1);
  }
  assertEquals(formatSbom("1.2.3", materials), formatSbom("1.2.3", materials));
});

Deno.test("licences of dependencies ask for no more than a notice", () => {
  const own = { type: "npm", version: "1.0.0", isRequired: true } as const;
  const named = (license?: string) => ({
    ...own,
    name: license ?? "none",
    ...(license !== undefined && { license }),
  });
  for (const license of ["MIT", "(MIT OR GPL-3.0)", "MIT AND ISC", "Apache-2.0"]) {
    assert(isAllowed(license), license);
  }
  for (const license of ["GPL-3.0", "MIT AND GPL-3.0", "SEE LICENSE IN FILE"]) {
    assert(!isAllowed(license), license);
  }
  expectLicenses([named("MIT"), named("GPL-3.0")], ({ license }) => license === "MIT");
  assertThrows(
    () => expectLicenses([named("MIT"), named("GPL-3.0"), named()], () => true),
    UsageError,
    "found GPL-3.0@1.0.0 GPL-3.0, none@1.0.0 without a licence; expected MIT",
  );
});

Deno.test("changes are listed by area, and a version without them is refused", async () => {
  assertEquals(
    formatChanges(["serve: answer", "lib/model: read", "serve: stop", "size: raise", "no area"]),
    "### lib/model\n\n- read\n\n### serve\n\n- answer\n- stop\n",
  );
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
      const cache = `${folder}/cache`,
        before = ["PATH", "TOKENFILTER_CACHE"].map((name) => Deno.env.get(name));
      const pip = (script: string) =>
        Deno.writeTextFile(`${folder}/python3`, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
      const said: string[] = [], ensure = () => ensureZig((line) => said.push(line));
      Deno.env.set("TOKENFILTER_CACHE", cache);
      Deno.env.set("PATH", `${folder}:${before[0]}`);
      try {
        await pip("echo no network >&2; exit 1");
        await assertRejects(ensure, UsageError, "no network");
        assertEquals(listFolder(cache), []);
        await pip(`while [ "$1" != --target ]; do shift; done
mkdir "$2/ziglang"; printf '#!/bin/sh\\necho ${PINNED_ZIG.version}\\n' > "$2/ziglang/zig"; chmod +x "$2/ziglang/zig"`);
        for (let time = 0; time < 2; time++) {
          assertEquals(await ensure(), `${cache}/ziglang-${PINNED_ZIG.version}/ziglang/zig`);
        }
        assertEquals(listFolder(cache), [`ziglang-${PINNED_ZIG.version}`]);
        assertEquals(said.length, 2, "it is fetched once");
      } finally {
        if (before[1] === undefined) Deno.env.delete("TOKENFILTER_CACHE");
        else Deno.env.set("TOKENFILTER_CACHE", before[1]);
        Deno.env.set("PATH", before[0]!);
      }
    }),
});
