/** The kernels as WebAssembly compute the bits of the native library at level `base`, in every runtime. */
import { fileURLToPath } from "node:url";
import { assert, assertEquals } from "@std/assert";
import { loadModel } from "../../lib/model/mod.ts";
import { browserTest } from "../../lib/plot/figure/testing.ts";
import { inPage } from "../../lib/plot/figure/chromium.ts";
import { IN_SLOW_TIER, RUNS_SLOW, unless } from "../../lib/testing.ts";
import { run } from "../build/command.ts";
import { findBuild } from "../library/library.ts";
import { openCpu } from "../mod.ts";
import { bitsOf, wasmBits } from "./bits_testing.ts";
import { findRuntimes } from "./runtimes_testing.ts";

const MODEL = new URL("../../lib/model/tiny/tiny-llama-4.8m.Q8_0.gguf", import.meta.url);
/** Files of the kernels by threads; those for several are tried in the slow tier. */
const WASM: readonly (readonly [threads: number, file: URL])[] = [
  [1, new URL("tokenfilter.wasm", import.meta.url)],
  ...RUNS_SLOW ? [[2, new URL("tokenfilter_threads.wasm", import.meta.url)] as const] : [],
];
const expected = new Map<number, Record<string, string>>();
for (const [threads, file] of WASM) {
  expected.set(threads, await wasmBits(await Deno.readFile(MODEL), await Deno.readFile(file), threads));
}

const NO_BASE = Deno.build.arch !== "x86_64" && "level base fuses products on other processors" ||
  await findBuild("cpu", { level: "base" }) === undefined &&
    "level base is not built: deno task build --level base";

Deno.test({
  ...unless(NO_BASE, "WebAssembly has the bits of level base"),
  fn: async () => {
    using cpu = await openCpu({ level: "base", threads: 1, blas: "none" });
    const bits = expected.get(1)!;
    assertEquals(bitsOf(await loadModel("tiny", cpu)), bits);
    const dropped = Object.values(bits).map((found) => Number(found.split(" ")[2]));
    assert(dropped[0] === 0 && dropped.slice(1).every((count) => count > 200), dropped.join());
  },
});

Deno.test({
  ...unless(IN_SLOW_TIER, "several threads decide as one does, and a dense model has its bits"),
  fn: () => {
    const decisionsOf = (bits: Record<string, string>) =>
      Object.values(bits).map((found) => found.replace(/^\w+ /, ""));
    const one = expected.get(1)!;
    for (const bits of expected.values()) {
      assertEquals(decisionsOf(bits), decisionsOf(one));
      assertEquals(bits.dense, one.dense);
    }
  },
});

/** One module for all runtimes but Deno: what it needs of Deno or Node would be an import that is left in it. */
async function bundle(): Promise<string> {
  const path = await Deno.makeTempFile({ suffix: ".js" });
  const entry = fileURLToPath(new URL("bits_testing.ts", import.meta.url));
  const { success, stderr } = await run(Deno.execPath(), ["bundle", "--platform=browser", "-o", path, entry]);
  assert(success, stderr);
  const text = await Deno.readTextFile(path);
  await Deno.remove(path);
  assertEquals(text.match(/^import .*|\bfrom "node:.*|\bDeno\.\w+/gm), null);
  return text;
}

for (const [name, { program, why }] of await findRuntimes()) {
  Deno.test({
    ...unless(why, `WebAssembly has the same bits in ${name}`),
    fn: async () => {
      const folder = await Deno.makeTempDir();
      await Deno.writeTextFile(`${folder}/bits.mjs`, await bundle());
      await Deno.writeTextFile(
        `${folder}/main.mjs`,
        `import { readFileSync } from "node:fs";
import { wasmBits } from "./bits.mjs";
const [model, wasm] = process.argv.slice(2, 4).map((path) => new Uint8Array(readFileSync(path)));
console.log(JSON.stringify(await wasmBits(model, wasm, Number(process.argv[4]))));`,
      );
      for (const [threads, file] of WASM) {
        const args = [`${folder}/main.mjs`, fileURLToPath(MODEL), fileURLToPath(file), String(threads)];
        const { stdout, stderr } = await run(program, args);
        assertEquals(stderr, "");
        assertEquals(JSON.parse(stdout), expected.get(threads));
      }
      await Deno.remove(folder, { recursive: true });
    },
  });
}

browserTest("WebAssembly has the same bits in Chromium", async () => {
  const files: Record<string, string | Uint8Array<ArrayBuffer>> = {
    "/bits.js": await bundle(),
    "/model": await Deno.readFile(MODEL),
    "/": "<!doctype html><title>bits</title>",
  };
  for (const [threads, file] of WASM) files[`/wasm${threads}`] = await Deno.readFile(file);
  const isolation = {
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-embedder-policy": "require-corp",
  };
  await using server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, ({ url }) => {
    const path = new URL(url).pathname, body = files[path];
    const type = path === "/"
      ? "text/html"
      : path === "/bits.js"
      ? "text/javascript"
      : "application/octet-stream";
    return body === undefined
      ? new Response(null, { status: 404 })
      : new Response(body, { headers: { "content-type": type, ...isolation } });
  });
  const found = await inPage(400, async (page) => {
    await page.goto(`http://127.0.0.1:${server.addr.port}/`);
    return await page.evaluate(`(async () => {
      const { wasmBits } = await import("/bits.js");
      const bytes = async (path) => new Uint8Array(await (await fetch(path)).arrayBuffer());
      const found = [], model = await bytes("/model");
      for (const threads of ${JSON.stringify([...expected.keys()])}) {
        found.push([threads, await wasmBits(model, await bytes("/wasm" + threads), threads)]);
      }
      return found;
    })()`);
  });
  assertEquals(found, [...expected]);
});
