import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { inChild } from "../kernels/testing/child.ts";
import { findLevel } from "./build/blas.ts";
import { findCompiler } from "./build/command.ts";
import { findLibrary } from "./library/library.ts";
import { cpuLevels } from "./mod.ts";
import { unless } from "../lib/testing.ts";

Deno.test("findBlas() tells of a missing permission instead of passing over the system's libraries", async () => {
  const cache = await Deno.makeTempDir();
  const found = await inChild(
    { TOKENFILTER_CACHE: cache },
    `
    const { findBlas } = await load("ffi/blas.ts");
    await Deno.permissions.revoke({ name: "ffi" });
    return await findBlas();`,
  );
  await Deno.remove(cache, { recursive: true });
  assertStringIncludes(found.error ?? "", "NotCapable");
});

Deno.test("openCpu() with a library and a level needs --allow-read and --allow-ffi alone, and says what it leaves", async () => {
  const { path } = await findLibrary("cpu"), [level] = await cpuLevels();
  const found = await inChild(
    {},
    `
    const { openCpu } = await load("ffi/mod.ts");
    for (const name of ["env", "run", "write", "net", "sys"]) await Deno.permissions.revoke({ name });
    using backend = await openCpu({ library: ${JSON.stringify(path)}, level: "${level}", threads: 1 });
    return backend.description;`,
  );
  assertStringIncludes(String(found), "built-in matrix product (none looked for: that needs --allow-env");
});

Deno.test("findBlas() takes only a named BLAS where the library's own products are faster", async () => {
  const find = (environment: Record<string, string>) =>
    inChild(
      environment,
      'const { findBlas } = await load("ffi/blas.ts"); return await findBlas(undefined, "avx512");',
    );
  assertEquals(await find({ TOKENFILTER_BLAS: "" }), { reason: "a BLAS is no faster at this level" });
  assertEquals(await find({ TOKENFILTER_BLAS: "/own.so" }), {
    path: "/own.so",
    reason: "TOKENFILTER_BLAS=/own.so",
  });
});

Deno.test({
  ...unless(
    await findCompiler().then(() => false, () => "there is no compiler"),
    "findLevel() says what the library finds",
  ),
  fn: async () => {
    assertEquals(await findLevel(), (await cpuLevels()).at(-1));
  },
});

Deno.test("ensureBlas() fetches none for a level that uses none", async () => {
  const cache = await Deno.makeTempDir();
  const { found, said } = await inChild(
    { TOKENFILTER_CACHE: cache, TOKENFILTER_BLAS: "" },
    `
    const { ensureBlas } = await load("ffi/build/blas.ts"), said = [];
    return { found: await ensureBlas({ level: "avx512", onProgress: (line) => said.push(line) }), said };`,
  );
  assertEquals([found, said, [...Deno.readDirSync(cache)]], [
    { reason: "a BLAS is no faster at this level" },
    [],
    [],
  ]);
  await Deno.remove(cache, { recursive: true });
});

/** A python3 that runs a shell's line for each module: `pip` is to fill the folder $dest, `zipfile` the folder $5. */
const python = (pip: string, zipfile: string) =>
  `#!/bin/sh
case "$2" in
pip) while [ "$1" != --dest ]; do shift; done; dest="$2"; ${pip};;
zipfile) ${zipfile};;
esac
`;

const NOT_FETCHED = `${Deno.build.os}-${Deno.build.arch}` !== "linux-x86_64" &&
  "no BLAS is pinned for this machine";

Deno.test({
  ...unless(
    NOT_FETCHED,
    "ensureBlas() goes on without a fetched BLAS, and says why: pip, the wheel, or what is in it",
  ),
  fn: async () => {
    const folder = await Deno.makeTempDir(), member = "scipy_openblas32/lib";
    const wheel = `: > "$dest/any.whl"`;
    const cases = [
      [python("echo first >&2; echo 'no such version' >&2; exit 1", "exit 9"), "no such version"],
      [python("exit 1", "exit 9"), "failed"],
      [python("exit 0", "exit 9"), "found no wheel"],
      [python(wheel, "echo 'not a zip file' >&2; exit 1"), "not a zip file"],
      [python(wheel, `/bin/mkdir -p "$5"`), "No such file"],
      [
        python(wheel, `/bin/mkdir -p "$5/${member}"; printf other > "$5/${member}/libscipy_openblas.so"`),
        "found SHA-256 d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa, expected b396d74f",
      ],
      [undefined, "python3: found no program"],
    ] as const;
    let runs = 0;
    for (const [script, reason] of cases) {
      const bin = `${folder}/bin${runs}`, cache = `${folder}/cache${runs}`;
      await Deno.mkdir(bin);
      if (script !== undefined) await Deno.writeTextFile(`${bin}/python3`, script, { mode: 0o755 });
      const { found, said } = await inChild(
        { TOKENFILTER_CACHE: cache, PATH: bin },
        `
        const { ensureBlas } = await load("ffi/build/blas.ts"), said = [];
        return { found: await ensureBlas({ onProgress: (line) => said.push(line) }), said };`,
      );
      assertStringIncludes(found.reason, reason);
      assert(/^(system library|no OpenBLAS in the system); pip: /.test(found.reason), found.reason);
      assertStringIncludes(said.at(-1), `no OpenBLAS from pip: ${found.reason.split("pip: ")[1]}`);
      assertEquals([...Deno.readDirSync(cache)].map(({ name }) => name), []);
      runs++;
    }
    await Deno.remove(folder, { recursive: true });
    assertEquals(runs, 7);
  },
});

Deno.test({
  ...unless(
    NOT_FETCHED,
    "a program that opens a backend tries to fetch a BLAS once a day, and a build each time",
  ),
  fn: async () => {
    const folder = await Deno.makeTempDir(), cache = `${folder}/cache`;
    await Deno.writeTextFile(
      `${folder}/python3`,
      `#!/bin/sh\necho tried >> ${folder}/tries\necho 'no network' >&2\nexit 1\n`,
      { mode: 0o755 },
    );
    const find = async (options: string) =>
      (await inChild(
        { TOKENFILTER_CACHE: cache, PATH: folder },
        `const { ensureBlas } = await load("ffi/build/blas.ts"); return await ensureBlas(${options});`,
      )).reason as string;
    const tries = () => Deno.readTextFileSync(`${folder}/tries`).trim().split("\n").length;
    const counts: number[] = [];
    for (const options of ["{ pauseMs: 1e8 }", "{ pauseMs: 1e8 }", "{}", "{ pauseMs: 1 }"]) {
      assertStringIncludes(await find(options), "pip: no network");
      counts.push(tries());
    }
    assertEquals(counts, [1, 1, 2, 3]);
    assertStringIncludes(await find("{ pauseMs: 1e8 }"), "tries again)");
    await Deno.remove(folder, { recursive: true });
  },
});
