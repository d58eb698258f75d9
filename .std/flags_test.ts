/** Where `@std` comes from: of a JSR that answers, refuses or swallows all that is sent. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { fileURLToPath } from "node:url";
import { sha256 } from "../lib/sha256.ts";
import { IN_SLOW_TIER, unless } from "../lib/testing.ts";

const NPM = "--quiet --import-map=.std/npm.json --lock=.std/npm.lock --frozen\n";
const ROOT = fileURLToPath(new URL("../", import.meta.url));

async function printFlags(env: { readonly [name: string]: string }) {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-config", "--no-lock", ".std/flags.ts"],
    cwd: ROOT,
    env: { TOKENFILTER_STD: "", NO_COLOR: "1", ...env },
  }).output();
  return { code, stdout: new TextDecoder().decode(stdout), stderr: new TextDecoder().decode(stderr) };
}

/** A JSR that has one module in each package, and the requests that come. */
function openJsr(modules: ReadonlyMap<string, string>) {
  const requests: string[] = [];
  const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen() {} }, async (request) => {
    const { pathname } = new URL(request.url);
    requests.push(pathname);
    for (const [specifier, code] of modules) {
      const [, name, version, entry = ""] = specifier.match(/^jsr:(@std\/[^@]+)@([\d.]+)(.*)$/)!;
      if (pathname === `/${name}/meta.json`) return Response.json({ versions: { [version!]: {} } });
      if (pathname === `/${name}/${version}_meta.json`) {
        const checksum = `sha256-${await sha256(code)}`;
        return Response.json({
          manifest: { "/mod.ts": { size: code.length, checksum } },
          exports: { [`.${entry}`]: "./mod.ts" },
        });
      }
      if (pathname === `/${name}/${version}/mod.ts`) return new Response(code);
    }
    return new Response("no", { status: 404 });
  });
  return {
    url: `http://127.0.0.1:${server.addr.port}/`,
    requests,
    [Symbol.asyncDispose]: () => server.shutdown(),
  };
}

async function withFolder(test: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await test(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("JSR is asked once, and a lock holds the digests of what it gave", () =>
  withFolder(async (folder) => {
    const { imports } = JSON.parse(await Deno.readTextFile(`${ROOT}/imports.json`));
    const names = Object.values<string>(imports).filter((specifier) => specifier.startsWith("jsr:"));
    await using jsr = openJsr(new Map(names.map((name) => [name, `export const name = "${name}";\n`])));
    const env = { JSR_URL: jsr.url, DENO_DIR: `${folder}/deno`, TOKENFILTER_CACHE: `${folder}/cache` };
    const first = await printFlags(env);
    assertMatch(first.stdout, /^--quiet --lock=\S+\/std-[0-9a-f]{16}\/deno\.lock\n$/, first.stderr);
    const path = first.stdout.trim().split("=")[1]!, lock = JSON.parse(await Deno.readTextFile(path));
    assertEquals(
      Object.keys(lock.jsr).sort(),
      names.map((name) => name.match(/@std\/[^@]+@[\d.]+/)![0]).sort(),
    );
    for (const { integrity } of Object.values<{ integrity: string }>(lock.jsr)) {
      assertMatch(integrity, /^[0-9a-f]{64}$/);
    }
    assertEquals(
      Object.keys(lock.npm),
      Object.keys(JSON.parse(await Deno.readTextFile(`${ROOT}/deno.lock`)).npm),
    );
    const before = jsr.requests.length;
    assertEquals(await printFlags(env), first);
    assertEquals(jsr.requests.length, before);
    assert(before > 0);
    // A registry that gives something else under these versions is refused.
    await using other = openJsr(new Map(names.map((name) => [name, "export const name = 'other';\n"])));
    const anew = { ...env, JSR_URL: other.url, DENO_DIR: `${folder}/other`, NO_COLOR: "1" };
    const args = ["cache", ...first.stdout.trim().split(" "), names[0]!];
    const cached = await new Deno.Command(Deno.execPath(), { args, cwd: ROOT, env: anew }).output();
    assertEquals(cached.code === 0, false);
    assertStringIncludes(new TextDecoder().decode(cached.stderr), "Integrity check failed");
  }));

Deno.test({
  ...unless(IN_SLOW_TIER, "a JSR that swallows all is waited for once"), // for three seconds
  fn: () =>
    withFolder(async (folder) => {
      using silent = Deno.listen({ port: 0, hostname: "127.0.0.1" }); // accepts connections, never answers
      const { port } = silent.addr as Deno.NetAddr;
      const env = { DENO_DIR: `${folder}/deno`, TOKENFILTER_CACHE: `${folder}/cache` };
      assertEquals((await printFlags({ ...env, JSR_URL: `http://127.0.0.1:${port}/` })).stdout, NPM);
      await using jsr = openJsr(new Map());
      assertEquals((await printFlags({ ...env, JSR_URL: jsr.url })).stdout, NPM);
      assertEquals(jsr.requests, []);
    }),
});

Deno.test("TOKENFILTER_STD decides without asking; where nothing can be noted it is npm, and no other word will do", () =>
  withFolder(async (folder) => {
    await using jsr = openJsr(new Map());
    const env = { JSR_URL: jsr.url, DENO_DIR: `${folder}/deno`, TOKENFILTER_CACHE: `${folder}/cache` };
    assertEquals((await printFlags({ ...env, TOKENFILTER_STD: "npm" })).stdout, NPM);
    assertEquals((await printFlags({ ...env, TOKENFILTER_CACHE: `${folder}/a b` })).stdout, NPM);
    assertEquals((await printFlags({ ...env, TOKENFILTER_CACHE: "/dev/null/x" })).stdout, NPM);
    assertEquals(jsr.requests, []);
    const wrong = await printFlags({ ...env, TOKENFILTER_STD: "cargo" });
    assertEquals([wrong.code, wrong.stdout], [2, ""]);
    assertStringIncludes(wrong.stderr, "Cannot use TOKENFILTER_STD=cargo: expected jsr or npm\n");
  }));
