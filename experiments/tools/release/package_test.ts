/** The package as it would be published: its files, and its use by a project elsewhere. */
import { fileURLToPath } from "node:url";
import { assert, assertEquals, assertMatch } from "@std/assert";
import { buildCpu } from "../../../build.ts";
import { run } from "../../../ffi/build/command.ts";
import { PLATFORM } from "../../../ffi/library/prebuilt.ts";
import { packageOf, sourceKey } from "../../../ffi/library/sources.ts";
import { cacheDir } from "../../../lib/cache.ts";
import { IN_SLOW_TIER, NOT_ON_WINDOWS, testSlow, unless } from "../../../lib/testing.ts";
import { withFolder } from "../../commands/testing.ts";
import { findRuntimes } from "../../../ffi/wasm/runtimes_testing.ts";
import { formatPrebuilt, listPublished, packNative } from "./packages.ts";

const ROOT = new URL("../../../", import.meta.url);
const PACKAGE = "@tokenfilter/tokenfilter", NAME = `jsr:${PACKAGE}`;
const readJson = async (path: string) => JSON.parse(await Deno.readTextFile(new URL(path, ROOT)));
const { exports, imports }: Record<"exports" | "imports", Record<string, string>> = await readJson(
  "deno.json",
);
const README = await Deno.readTextFile(new URL("README.md", ROOT));
const INSTALL = await Deno.readTextFile(new URL("docs/start/install.md", ROOT));
/** README's program on the native library; it prints logits of a last token too, which tests compare. */
const SAMPLE = Array.from(README.matchAll(/^```ts\n(.*?)^```/gms), ([, code]) => code!)
  .find((code) => code.includes("openCpu()"))! +
  "console.log(...backend.read(model.logits(sequence.feed(ids.slice(0, 1)))).data.slice(0, 120));\n";
/** Permissions that the page of the installation names: those of a program, and the additional ones of a build. */
const [RUNNING, BUILDING] = ["--allow-read", "--allow-run"].map((first) =>
  INSTALL.match(new RegExp(`\`(${first}( --allow-\\w+)*)\``))![1]!.split(" ")
) as [string[], string[]];

const published = await listPublished();
/** The library of this machine and its cache, as they were before other tests ran. */
const CACHE = cacheDir(), BUILT = await buildCpu();

const deno = (cwd: string, args: readonly string[], env: Record<string, string> = {}) =>
  run(Deno.execPath(), args, {
    cwd,
    env: { TOKENFILTER_CACHE: CACHE, TOKENFILTER_LIBRARY: "", TOKENFILTER_LEVEL: "", NO_COLOR: "1", ...env },
  });

/** Copies the published files to `folder`/package, and writes a project next to it. */
async function makeProject(folder: string, config: object, files: Record<string, string>): Promise<string> {
  for (const path of published) {
    const to = `${folder}/package/${path}`;
    await Deno.mkdir(to.replace(/\/[^/]*$/, ""), { recursive: true });
    await Deno.copyFile(new URL(path, ROOT), to);
  }
  // What is linked, and the lock, are the checkout's alone: no user of a package reads them.
  const { links: _, lock: __, ...own } = await readJson("deno.json");
  await Deno.writeTextFile(`${folder}/package/deno.json`, JSON.stringify(own));
  const project = `${folder}/project`;
  await Deno.mkdir(project);
  await Deno.writeTextFile(`${project}/deno.json`, JSON.stringify(config));
  for (const [name, text] of Object.entries(files)) await Deno.writeTextFile(`${project}/${name}`, text);
  return project;
}

/** Packs the library of this machine, and installs it in a project. @returns The list of libraries with only this one. */
async function installNative(folder: string, project: string): Promise<string> {
  const bytes = await Deno.readFile(BUILT.path), to = `${project}/node_modules/${packageOf(PLATFORM)}`;
  const packed = await packNative(folder, PLATFORM, { ...BUILT.manifest, bytes }, "0.0.0");
  await Deno.mkdir(to, { recursive: true });
  assertEquals((await run("tar", ["xzf", packed.path, "-C", to, "--strip-components=1"])).success, true);
  return formatPrebuilt({ sources: await sourceKey("cpu"), libraries: { [PLATFORM]: packed.library } });
}

/** Files that run main.ts in a Worker. */
const IN_WORKER = {
  "worker.ts": 'await import("./main.ts");\nself.postMessage("done");\n',
  "host.ts": `const worker = new Worker(new URL("worker.ts", import.meta.url), { type: "module" });
worker.onmessage = () => worker.terminate();\n`,
};

/** Says what runs, and why. */
const DESCRIBE = `import { openCpu } from "${NAME}/ffi";
console.log((await openCpu({ onProgress: console.error })).description);`;

/** README's program with another backend. */
const on = (backend: string, more = "") =>
  `${more}\nimport { ReferenceBackend } from "${NAME}";\n${SAMPLE.replace("await openCpu()", backend)}`;

/** All numbers that a program has printed; it must have ended well. */
function numbersOf({ code, stdout, stderr }: Awaited<ReturnType<typeof run>>): number[] {
  assertEquals(code, 0, stderr);
  const numbers = Array.from(stdout.matchAll(/-?\d+(?:\.\d+)?/g), Number);
  assert(numbers.length > 100, stdout);
  return numbers;
}

function assertAllClose(found: readonly number[], expected: readonly number[]): void {
  assertEquals(found.length, expected.length);
  found.forEach((value, i) => assert(Math.abs(value - expected[i]!) < 1e-3, `${value}, ${expected[i]}`));
}

Deno.test("what is published holds no test, case, interpreter or fuzzer, and every file that it uses", () =>
  withFolder(async (folder) => {
    assert(published.length > 100 && published.includes("lib/model/tiny/tiny-llama-4.8m.Q8_0.gguf"));
    const forbidden = /test(?!ed\.ts)|cases?\.|(^|\/)cases|\/ptx\/|fuzz/i;
    assertEquals(published.filter((path) => forbidden.test(path)), []);
    const kinds = new Set(published.map((path) => path.match(/[^/]+?(\.\w+)?$/)![1] ?? path));
    const known = ".c .cpp .cu .cuh .def .gguf .h .json .md .mjs .py .toml .ts .txt .wasm LICENSE".split(" ");
    assertEquals([...kinds].filter((kind) => !known.includes(kind)), []);
    for (
      const name of ["tokenfilter_filter.h", "filter.c", "filter.py", "transformers_filter.py", "setup.py"]
    ) {
      assert(published.includes(`ffi/embed/${name}`), name);
    }

    const sources = published.filter((path) => path.endsWith(".ts"));
    const all = sources.map((path) => `import ${JSON.stringify(`./${path}`)};\n`).join("");
    await makeProject(folder, {}, {});
    await Deno.writeTextFile(`${folder}/package/all.ts`, all);
    const { code, stdout, stderr } = await deno(`${folder}/package`, ["info", "--json", "all.ts"]);
    assertEquals(code, 0, stderr);
    const modules: { specifier: string; error?: string }[] = JSON.parse(stdout).modules;
    assertEquals(modules.filter(({ error }) => error !== undefined), []);
    const local = modules.filter(({ specifier }) => specifier.startsWith("file:"));
    assertEquals(local.length, sources.length + 1);

    let files = 0;
    for (const path of sources) {
      const text = await Deno.readTextFile(`${folder}/package/${path}`);
      for (const [, target] of text.matchAll(/new URL\("([^"]+)", import\.meta\.url\)/g)) {
        await Deno.stat(new URL(target!, `file://${folder}/package/${path}`));
        files++;
      }
    }
    assert(files >= 4, `${files} files read beside the code`);
  }));

testSlow(
  "a project that links the packed files checks strictly, and runs README's program with its permissions",
  () =>
    withFolder(async (folder) => {
      const entries = Object.keys(exports).map((entry) => NAME + entry.slice(1));
      const project = await makeProject(
        folder,
        { links: ["../package"], compilerOptions: { strict: true } },
        {
          "main.ts": SAMPLE,
          "reference.ts": on("new ReferenceBackend()"),
          "entries.ts": entries.map((entry, i) => `export * as entry${i} from "${entry}";\n`).join(""),
          "describe.ts": DESCRIBE,
          ...IN_WORKER,
        },
      );
      const checked = await deno(project, ["check", "main.ts", "reference.ts", "entries.ts"]);
      assertEquals(checked.code, 0, checked.stderr);
      // The key of sources does not depend on their folder: the build of the test command is found.
      const built = await deno(project, ["run", "-A", `${NAME}/build`]);
      assertMatch(built.stdout, /^found \S+ \(\w+(, \w+)*\)\n/);
      const cpu = await deno(project, ["run", "--no-prompt", ...RUNNING, "main.ts"]);
      const reference = await deno(project, ["run", "--no-prompt", "--allow-read", "reference.ts"]);
      assertAllClose(numbersOf(cpu), numbersOf(reference));
      const inWorker = await deno(project, ["run", "--no-prompt", ...RUNNING, "host.ts"]);
      assertEquals(inWorker, cpu);
      // With the library of the npm package, and a cache that has none.
      const env = { TOKENFILTER_CACHE: `${folder}/none`, TOKENFILTER_BLAS: "none" };
      const list = await installNative(folder, project), describe = ["run", "-A", "describe.ts"];
      const without = await deno(project, describe, env);
      assertMatch(
        without.stderr,
        /native-\S+@0\.0\.0 \(.+\) nor a build of these sources in .*; run: .*Going on with WebAssembly/,
      );
      await Deno.writeTextFile(`${folder}/package/ffi/library/prebuilt_list.ts`, list);
      const { stdout } = await deno(project, describe, env);
      assertMatch(stdout, /^cpu: .* \(TOKENFILTER_BLAS=none; prebuilt @tokenfilter\/native-\S+@0\.0\.0\)\n$/);
      assertEquals(await deno(project, ["run", "--no-prompt", ...RUNNING, "main.ts"], env), cpu);
      // Another library is not loaded: here, the build in the usual cache is.
      const library = `${project}/node_modules/${packageOf(PLATFORM)}/libtokenfilter_cpu.so`;
      await Deno.writeFile(library, new Uint8Array(1), { append: true });
      assertMatch(
        (await deno(project, describe)).stdout,
        /; built here, not @tokenfilter\/native-\S+ \(found /,
      );
      // README shows the output of its program: a text with tokens that were skipped.
      const [, shown] = SAMPLE.match(/^\/\/ (It was .*)$/m)!;
      assert(
        shown!.includes("[ was]") && cpu.stdout.trimStart().startsWith(shown!),
        cpu.stdout.slice(0, 200),
      );
    }),
);

/** Serves the published files. @param requests Gets the paths that were asked for @param change Gives the bytes to send */
function servePackage(
  requests: string[] = [],
  change: (path: string, bytes: Uint8Array<ArrayBuffer>) => Uint8Array<ArrayBuffer> = (_, bytes) => bytes,
): Deno.HttpServer<Deno.NetAddr> {
  return Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, async (request) => {
    const path = decodeURIComponent(new URL(request.url).pathname.slice(1));
    requests.push(path);
    if (!published.includes(path)) return new Response(null, { status: 404 });
    const type = path.endsWith(".ts") ? "application/typescript" : "application/octet-stream";
    const bytes = await Deno.readFile(new URL(path, ROOT));
    return new Response(change(path, bytes), { headers: { "content-type": type } });
  });
}

Deno.test("tiny comes once where the package is imported over http, and anew where the copy was damaged", () =>
  withFolder(async (folder) => {
    const requests: string[] = [];
    let isDamaged = false;
    await using server = servePackage(requests, (path, bytes) => {
      if (path.endsWith(".gguf") && isDamaged) bytes[bytes.length >> 1]! ^= 1;
      return bytes;
    });
    const host = `127.0.0.1:${server.addr.port}`, program = `${folder}/main.ts`;
    await Deno.writeTextFile(
      program,
      `import { resolveModel } from "http://${host}/lib/model/hub/hub.ts";
if (Deno.args[0] === "damage") {
  const url = "http://${host}/lib/model/tiny/tiny-llama-4.8m.Q8_0.gguf";
  await (await caches.open("tokenfilter")).put(url, new Response("no"));
}
console.log((await resolveModel("tiny")).sha256);`,
    );
    const fetched = () => requests.filter((path) => path.endsWith(".gguf")).length;
    const resolve = (arg: string) => {
      const run = [
        "run",
        "--no-config",
        "--no-prompt",
        "--allow-read",
        `--allow-net=${host}`,
        `--allow-import=${host}`,
      ];
      return deno(folder, [...run, program, arg], { DENO_DIR: `${folder}/deno` });
    };
    for (const [arg, count] of [["", 1], ["", 1], ["damage", 2]] as const) {
      const { code, stdout, stderr } = await resolve(arg);
      assertEquals([code, stdout.slice(0, 8), fetched()], [0, "5caf80a8", count], stderr);
    }
    isDamaged = true;
    const { code, stderr } = await resolve("damage");
    assertEquals([code, fetched()], [1, 3]);
    assertMatch(stderr, /Cannot load model "tiny": found SHA-256 \w+ of .*, expected 5caf80a8/);
  }));

/** The entries of the package on a host, by their names. */
const importsFrom = (host: string) => ({
  ...imports,
  ...Object.fromEntries(
    Object.entries(exports).map(([entry, path]) => [NAME + entry.slice(1), `http://${host}/${path}`]),
  ),
});

/** Folder of Deno's cache. */
const { denoDir } = JSON.parse(
  (await run(Deno.execPath(), ["info", "--json"], { cwd: ROOT })).stdout,
);

/** A folder for modules that are cached only for a test; packages are those of the present cache. */
async function makeDenoDir(folder: string): Promise<string> {
  await Deno.mkdir(folder);
  await Deno.symlink(`${denoDir}/npm`, `${folder}/npm`);
  return folder;
}

testSlow("a project over http takes a prebuilt library, in a Worker too", () =>
  withFolder(async (folder) => {
    const lists: string[] = [];
    await using server = servePackage([], (path, bytes) =>
      path === "ffi/library/prebuilt_list.ts" ? new TextEncoder().encode(lists.join("")) : bytes);
    const host = `127.0.0.1:${server.addr.port}`,
      files = { "main.ts": SAMPLE, "describe.ts": DESCRIBE, ...IN_WORKER };
    const project = await makeProject(folder, { imports: importsFrom(host) }, files);
    lists.push(await installNative(folder, project));
    const env = {
      TOKENFILTER_CACHE: `${folder}/none`,
      TOKENFILTER_BLAS: "none",
      DENO_DIR: await makeDenoDir(`${folder}/d`),
    };
    const run = (file: string) =>
      deno(
        project,
        ["run", "--no-prompt", ...RUNNING, `--allow-import=${host}`, `--allow-net=${host}`, file],
        env,
      );
    const { stdout, stderr } = await run("describe.ts");
    assertMatch(stdout, /prebuilt @tokenfilter\/native-/, stderr);
    const found = await run("main.ts");
    assert(numbersOf(found).length > 100);
    assertEquals((await run("host.ts")).stdout, found.stdout);
  }));

Deno.test({
  ...unless(
    NOT_ON_WINDOWS || IN_SLOW_TIER, // it compiles the library again
    "a project that imports the packed files over http builds them, and runs README's program",
  ),
  fn: () =>
    withFolder(async (folder) => {
      await using server = servePackage();
      const host = `127.0.0.1:${server.addr.port}`;
      const text = `import { readBuiltinText } from "http://${host}/lib/eval/text/mod.ts";
console.log((await readBuiltinText()).length);`;
      const project = await makeProject(folder, {
        compilerOptions: { strict: true, noUncheckedIndexedAccess: true, exactOptionalPropertyTypes: true },
        imports: importsFrom(host),
      }, {
        "main.ts": SAMPLE,
        "describe.ts": DESCRIBE,
        "build.ts": on("await openCpu({ build: true })", text),
      });
      const DENO_DIR = await makeDenoDir(`${folder}/deno`);
      // The compiler at hand, without optimization: the libraries built here need not be fast.
      const CXX = `${folder}/c++`, compiler = Deno.env.get("CXX") || "g++";
      await Deno.writeTextFile(
        CXX,
        `#!/bin/sh\nfor a; do [ "$a" = -O3 ] && a=-O0; set -- "$@" "$a"; shift; done\nexec ${compiler} "$@"\n`,
        { mode: 0o755 },
      );
      const env = {
        ...{ CXX, DENO_DIR, TOKENFILTER_CACHE: `${folder}/cache` },
        TOKENFILTER_BLAS: "none",
      };
      const run = (...args: string[]) => deno(project, ["run", "--no-prompt", ...args], env);
      const over = [`--allow-import=${host}`, `--allow-net=${host}`];

      const checked = await deno(project, ["check", `--allow-import=${host}`, "main.ts", "build.ts"], env);
      assertEquals(checked.code, 0, checked.stderr);
      const missing = await run(...RUNNING, ...over, "describe.ts");
      const [, command] = missing.stderr.match(/; run: deno (.*)\. Going on with WebAssembly/)!;
      assertEquals(command, `run -A http://${host}/build.ts`);
      const onWasm = numbersOf(await run(...RUNNING, ...over, "main.ts"));
      const [length, ...built] = numbersOf(await run(...RUNNING, ...BUILDING, ...over, "build.ts"));
      assert(length! > 10_000);
      assertAllClose(onWasm, built);
      const again = await deno(project, command!.split(" "), env);
      assertMatch(again.stdout, /^found \S+ \(\w+(, \w+)*\)\n/, again.stderr);
      assertEquals(numbersOf(await run(...RUNNING, ...over, "main.ts")), built);
    }),
});

/** What a stranger writes in another runtime: a prompt goes on with half of the keys. */
const GENERATE = `import { readFile } from "node:fs/promises";
import { createPruner } from "${PACKAGE}";
import { generateTokens, openModel, Sampler } from "${PACKAGE}/model";
import { openWasm } from "${PACKAGE}/wasm";
const backend = await openWasm();
const { model, tokenizer, config } = await openModel(new Uint8Array(await readFile(process.argv[2])), backend);
const sequence = model.start(createPruner("token-filtering", config, { preset: "keys", pruneRatio: 0.5 }));
const prompt = tokenizer.encode("It was a dark night, and the", { bos: true });
const ids = [];
for (const step of generateTokens(model, sequence, prompt, { sampler: new Sampler(), maxTokens: 8 })) {
  if (step.kind === "token") ids.push(step.id);
}
console.log(tokenizer.decode(ids), sequence.kvKeep.size);
`;

/** Decisions of the filter alone; and every entry that runs there. */
const DECIDE = `import { TokenFilter } from "${PACKAGE}";
const shape = { numLayers: 4, numHeads: 2, numKvHeads: 1, headDim: 2, hiddenSize: 4 };
const sequence = new TokenFilter(shape, { pruneRatio: 0.25, tail: 0.5, warmup: 1 }).start();
sequence.step(2, new Float32Array([1, 0]), new Float32Array([0, 1]));
console.log(sequence.step(2, new Float32Array([2, 0]), new Float32Array([0, 3])).redundancy[0]);
const hidden = new Float32Array([1, 0, 0, 1]), inputs = { normed: hidden, residual: hidden };
const learned = new TokenFilter(shape, { fusion: "learned", features: ["projection"], warmup: 8 }).start();
console.log(learned.step(2, new Float32Array([1, 0]), new Float32Array([0, 1]), inputs).keep[0]);
for (const entry of ["eval", "plot", "stats", "model", "methods", "wasm"]) await import("${PACKAGE}/" + entry);
await import("${PACKAGE}/ffi").catch(() => console.log("no ffi"));
`;

/** A sweep, whose trials another runtime must measure to the last bit. */
const SWEEP = `import { readFile } from "node:fs/promises";
import { openModel } from "${PACKAGE}/model";
import { sweepStudy } from "${PACKAGE}/sweep";
import { openWasm } from "${PACKAGE}/wasm";
const model = await openModel(new Uint8Array(await readFile(process.argv[2])), await openWasm());
const study = { model, text: "The boy asked who had the map, and the captain laughed. ".repeat(9), context: 64, tokens: 64 };
const { trials } = await sweepStudy(study, [{ fusion: ["key", "random"], pruneRatio: 0.5, warmup: 8 }]);
console.log(JSON.stringify(trials.map((own) => [own.fusion, own.achievedRatio, own.perplexity])));
console.log(trials[0].deno.replace(/ .*/, ""), trials[0].version);
`;
/** What it prints here, where the package is the code itself. */
async function sweepHere(folder: string): Promise<string> {
  const text = SWEEP.replaceAll(
    /"@tokenfilter\/tokenfilter(\/\w+)"/g,
    (_, entry) => `"${new URL(exports[`.${entry}`]!, ROOT)}"`,
  );
  await Deno.writeTextFile(`${folder}/sweep_here.ts`, text);
  const model = fileURLToPath(new URL("lib/model/tiny/tiny-llama-4.8m.Q8_0.gguf", ROOT));
  const config = ["--config", fileURLToPath(new URL("deno.json", ROOT)), "--no-check"];
  const { stdout, stderr } = await deno(folder, ["run", "-A", ...config, `${folder}/sweep_here.ts`, model]);
  assertMatch(stdout, /^\[\[.*\]\]\n[\d.]+ [\d.]+\n$/, stderr);
  return stdout.split("\n")[0]!;
}

/** TypeScript and declarations of what the package's own name, as a user installs them. */
const TYPES = ["typescript@7.0.2", "@types/node@26.6.11", "@types/deno@2.7.0"];
const STRICT = [
  "--noEmit",
  "--strict",
  "--skipLibCheck",
  "false",
  "--target",
  "esnext",
  "--module",
  "nodenext",
];

testSlow(
  "the package of npm has types without an error, those that it brings checked too",
  () =>
    withFolder(async (folder) => {
      const packed = await deno(fileURLToPath(ROOT), [
        "pack",
        "--allow-dirty",
        "--output",
        `${folder}/package.tgz`,
      ]);
      assertEquals(packed.code, 0, packed.stderr);
      await Deno.writeTextFile(`${folder}/package.json`, '{ "type": "module" }');
      const entries = Object.keys(exports).map((entry) => PACKAGE + entry.slice(1));
      const all = entries.map((entry, i) => `export * as entry${i} from "${entry}";\n`).join("");
      await Deno.writeTextFile(`${folder}/all.ts`, all);
      const quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--prefix", folder];
      const installed = await run("npm", ["install", ...quiet, `${folder}/package.tgz`, ...TYPES]);
      assertEquals(installed.success, true, installed.stderr);
      const tsc = `${folder}/node_modules/.bin/tsc`;
      const { code, stdout } = await run(tsc, [...STRICT, "--types", "node,deno", "all.ts"], { cwd: folder });
      assertEquals([code, stdout], [0, ""]);
    }),
);

for (const [name, { program, why }] of await findRuntimes()) {
  Deno.test({
    ...unless(IN_SLOW_TIER || why, `the package of npm decides, generates and sweeps in ${name}`),
    fn: () =>
      withFolder(async (folder) => {
        const pack = ["pack", "--allow-dirty", "--allow-slow-types", "--output", `${folder}/package.tgz`];
        const packed = await deno(fileURLToPath(ROOT), pack);
        assertEquals(packed.code, 0, packed.stderr);
        await Deno.writeTextFile(`${folder}/package.json`, '{ "type": "module" }');
        const quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--prefix", folder];
        const installed = await run("npm", ["install", ...quiet, `${folder}/package.tgz`]);
        assertEquals(installed.success, true, installed.stderr);
        const use = async (name: string, text: string) => {
          await Deno.writeTextFile(`${folder}/${name}`, text);
          const model = `${folder}/node_modules/${PACKAGE}/lib/model/tiny/tiny-llama-4.8m.Q8_0.gguf`;
          const { stdout, stderr } = await run(program, [`${folder}/${name}`, model]);
          return [stdout, stderr];
        };
        assertEquals(await use("decide.js", DECIDE), ["1\n1\nno ffi\n", ""]);
        assertEquals(await use("generate.js", GENERATE), ["sun was still in the sunlight. 10\n", ""]);
        const [swept, why] = await use("sweep.js", SWEEP);
        if (/No such built-in module: node:sqlite/.test(why!)) return; // Node before 22.5
        const { version } = await readJson("deno.json"), runtime = name === "bun" ? "bun" : "node";
        assertEquals(swept, `${await sweepHere(folder)}\n${runtime} ${version}\n`);
      }),
  });
}
