/** The pack for a GPU machine: its content, and the commands of its script. No network, and no GPU. */
import process from "node:process";
import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { UsageError } from "../../lib/errors.ts";
import { run as runProgram } from "../../ffi/build/command.ts";
import { listTree } from "./machine/checkout.ts";
import {
  fetchPackages,
  listPackages,
  lockedPackages,
  main,
  type PackSource,
  writeArchive,
  writePack,
} from "./gpu_pack.ts";
import { findDenoCaches } from "../commands/cli/machine/deno.ts";
import { withFolder as inFolder } from "../commands/testing.ts";
import { IN_SLOW_TIER, NEEDS_LINUX, unless } from "../../lib/testing.ts";

const ROOT = new URL("../..", import.meta.url).pathname.replace(/\/$/, "");

async function run(...command: Parameters<typeof runProgram>) {
  const { code, stdout, stderr } = await runProgram(...command);
  return { code, stdout, stderr };
}

async function write(path: string, text: string): Promise<void> {
  await Deno.mkdir(path.replace(/\/[^/]*$/, ""), { recursive: true });
  await Deno.writeTextFile(path, text);
}

/** A small checkout with a lock of two packages, a cache that holds them, and a script for Deno's binary. */
async function smallSource(folder: string): Promise<PackSource> {
  const root = `${folder}/checkout`, npmCache = `${folder}/cache`, deno = `${folder}/deno`;
  await write(`${root}/mod.ts`, "export {};\n");
  await write(`${root}/results/old.json`, "{}\n");
  await write(`${root}/.gitignore`, "/results/\n");
  await write(
    `${root}/.std/npm.lock`,
    JSON.stringify({ npm: { "plain@1.2.3": {}, "@scope/named@0.1.0": {} } }),
  );
  await write(
    `${root}/experiments/tools/gpu_pack/run.sh`,
    await Deno.readTextFile(`${ROOT}/experiments/tools/gpu_pack/run.sh`),
  );
  for (
    const args of [["init", "-q"], ["add", "."], [
      "-c",
      "user.name=a",
      "-c",
      "user.email=a@b",
      "commit",
      "-qm",
      "x",
    ]]
  ) {
    const { code, stderr } = await run("git", args, { cwd: root });
    assertEquals(code, 0, stderr);
  }
  await write(`${npmCache}/some.registry/plain/1.2.3/index.js`, "1;\n");
  await write(`${npmCache}/some.registry/plain/2.0.0/index.js`, "2;\n");
  await write(`${npmCache}/some.registry/@scope/named/0.1.0/lib/a.js`, "3;\n");
  await write(
    deno,
    '#!/bin/sh\necho "$* $TOKENFILTER_STD $TOKENFILTER_COMMIT" >> "$LOG"\ncase "$2" in $FAIL) exit $CODE;; esac\n',
  );
  await Deno.chmod(deno, 0o755);
  return { root, npmCache, deno, fetchPackages: () => Promise.reject(new Error("asked for the network")) };
}

Deno.test("listTree() lists the tracked files that tests and benchmarks need, and nothing that git ignores", async () => {
  const files = await listTree(ROOT), paths = files.map(({ to }) => to);
  for (
    const path of [
      ...[
        "deno.json",
        "mod.ts",
        "build.ts",
        "imports.json",
        ".std/npm.json",
        ".std/npm.lock",
        ".std/flags.ts",
      ],
      ...[
        "experiments/tools/test_gpu.ts",
        "experiments/tools/bench_gpu.ts",
        "experiments/tools/bench_gpu/torch_attention.py",
      ],
      ...[
        "kernels/linear/linear.cu",
        "kernels/include/tokenfilter_cuda.h",
        "ffi/cuda/testdata/fake_driver.c",
      ],
    ]
  ) assert(paths.includes(path), path);
  assertEquals(paths.filter((path) => /^(results|build|node_modules)\//.test(path)), []);
  assertEquals(paths.toSorted(), paths);
  assertEquals(await listTree(ROOT), files);
});

Deno.test("listTree() says so where there is no git checkout", () =>
  inFolder(async (folder) => {
    await assertRejects(() => listTree(folder), UsageError, "Cannot list the tree: ");
  }));

Deno.test("lockedPackages() names what this machine takes of the lock, as Deno's cache has it", async () => {
  const packages = lockedPackages(await Deno.readTextFile(`${ROOT}/.std/npm.lock`));
  assert(
    packages.some((id) => /^deno-std@\d/.test(id)) && packages.some((id) => id.startsWith("@huggingface/")),
  );
  const npm = { "plain@1.0.0": {}, "@a/b_c@2.0.0_plain@1.0.0": {}, "@a/b_c@2.0.0_plain@1.0.1": {} };
  const own = { os: [process.platform], cpu: [process.arch] };
  const foreign = { "away@1.0.0": { os: ["vms"] }, "odd@1.0.0": { cpu: ["vax"] }, "near@1.0.0-rc.1": own };
  assertEquals(lockedPackages(JSON.stringify({ npm: { ...npm, ...foreign } })), [
    "@a/b_c@2.0.0",
    "near@1.0.0-rc.1",
    "plain@1.0.0",
  ]);
});

Deno.test("every package of the real lock is found where Deno has put it", async () => {
  const { npmCache } = await findDenoCaches();
  const wanted = lockedPackages(await Deno.readTextFile(`${ROOT}/.std/npm.lock`));
  if ((await listPackages(npmCache, wanted)).missing.length > 0) await fetchPackages();
  assertEquals((await listPackages(npmCache, wanted)).missing, []);
});

Deno.test({
  ...unless(
    IN_SLOW_TIER || NEEDS_LINUX,
    "pack:gpu packs this checkout, and its run.sh runs its tasks without a network",
  ),
  fn: () =>
    inFolder(async (folder) => {
      assertEquals(await main(["--out", `${folder}/pack`, "--quiet"]), 0);
      const env = { HTTP_PROXY: "http://127.0.0.1:9", HTTPS_PROXY: "http://127.0.0.1:9", HOME: folder };
      for (const task of ["test:gpu", "bench:gpu"]) {
        const args = [`${folder}/work`, task, "--help"];
        const { code, stdout, stderr } = await run(`${folder}/pack/run.sh`, args, { env });
        assertEquals(code, 0, stderr);
        assert(stdout.includes(`Usage: deno task ${task}`), stdout);
      }
      // The tree has the tests and their imports too.
      const inTree = {
        ...env,
        DENO_DIR: `${folder}/work/deno`,
        TOKENFILTER_STD: "npm",
        DENO_NO_UPDATE_CHECK: "1",
      };
      const flags = ["--import-map=.std/npm.json", "--lock=.std/npm.lock", "--frozen"];
      const files = ["kernels/rms_norm/rms_norm_test.ts", "ffi/cuda/model_cuda_test.ts"];
      const cached = await run(`${folder}/work/bin/deno`, ["cache", ...flags, ...files], {
        cwd: `${folder}/work/tree`,
        env: inTree,
      });
      assertEquals(cached.code, 0, cached.stderr);
    }),
});

Deno.test("listPackages() takes the locked versions alone, and says what is missing", () =>
  inFolder(async (folder) => {
    const { npmCache } = await smallSource(folder);
    const wanted = ["@scope/named@0.1.0", "plain@1.2.3", "gone@1.0.0"];
    const { folders, missing } = await listPackages(npmCache, wanted);
    assertEquals(
      folders,
      ["@scope/named/0.1.0", "plain/1.2.3"].map((path) => ({
        from: `${npmCache}/some.registry/${path}`,
        to: `deno/npm/localhost_9/${path}`,
      })),
    );
    assertEquals(missing, ["gone@1.0.0"]);
    assertEquals((await listPackages(`${folder}/none`, ["a@1.0.0"])).missing, ["a@1.0.0"]);
  }));

Deno.test("writePack() writes the same bytes twice, and no more than it should", () =>
  inFolder(async (folder) => {
    const source = await smallSource(folder);
    for (const out of ["a", "b"]) await writePack(`${folder}/${out}`, source);
    const names = ["COMMIT", "pack.tgz", "run.sh"];
    assertEquals((await Array.fromAsync(Deno.readDir(`${folder}/a`))).map(({ name }) => name).sort(), names);
    for (const name of names) {
      assertEquals(
        await Deno.readFile(`${folder}/a/${name}`),
        await Deno.readFile(`${folder}/b/${name}`),
        name,
      );
    }
    const list = await run("python3", ["-m", "tarfile", "-l", `${folder}/a/pack.tgz`]);
    assertEquals([list.code, list.stderr], [0, ""]);
    assertEquals(list.stdout.trim().split(/\s+/).filter((name) => !name.endsWith("/")), [
      "tree/.gitignore",
      "tree/.std/npm.lock",
      "tree/experiments/tools/gpu_pack/run.sh",
      "tree/mod.ts",
      "deno/npm/localhost_9/@scope/named/0.1.0/lib/a.js",
      "deno/npm/localhost_9/plain/1.2.3/index.js",
      "bin/deno",
    ]);
    assertMatch(await Deno.readTextFile(`${folder}/a/COMMIT`), /^[0-9a-f]{40}\n$/);
    await write(`${source.root}/mod.ts`, "changed\n");
    await writePack(`${folder}/c`, source);
    assertMatch(await Deno.readTextFile(`${folder}/c/COMMIT`), /^[0-9a-f]{40}-dirty\n$/);
  }));

Deno.test("writePack() fetches a package that is not there, and fails where that does not help", () =>
  inFolder(async (folder) => {
    const source = await smallSource(folder);
    await Deno.remove(`${source.npmCache}/some.registry/plain`, { recursive: true });
    await assertRejects(() => writePack(`${folder}/a`, source), Error, "asked for the network");
    const nothing = { ...source, fetchPackages: () => Promise.resolve() };
    await assertRejects(
      () => writePack(`${folder}/a`, nothing),
      UsageError,
      "Cannot pack plain@1.2.3: found no copy",
    );
  }));

Deno.test("writeArchive() writes what Python reads: programs, long paths, empty files, files with two names", () =>
  inFolder(async (folder) => {
    const long = `${"folder_of_a_long_name/".repeat(6)}${"x".repeat(190)}.ts`;
    await write(`${folder}/a`, "");
    await write(`${folder}/b`, "z".repeat(512));
    await write(`${folder}/c`, "#!/bin/sh\n");
    await Deno.chmod(`${folder}/c`, 0o755);
    await Deno.link(`${folder}/c`, `${folder}/d`);
    const files = [["a", "empty"], ["b", long], ["c", "bin/program"], ["d", "other"]].map(([from, to]) => ({
      from: `${folder}/${from}`,
      to: to!,
    }));
    await writeArchive(`${folder}/x.tgz`, files);
    const unpack = ["-W", "ignore", "-m", "tarfile", "-e", `${folder}/x.tgz`, `${folder}/out`];
    assertEquals(await run("python3", unpack), { code: 0, stdout: "", stderr: "" });
    assertEquals(await Deno.readTextFile(`${folder}/out/empty`), "");
    assertEquals(await Deno.readTextFile(`${folder}/out/${long}`), "z".repeat(512));
    assertEquals((await Deno.stat(`${folder}/out/bin/program`)).mode! & 0o777, 0o755);
    assertEquals((await Deno.lstat(`${folder}/out/other`)).nlink, 1);
    const gone = [{ from: `${folder}/none`, to: "none" }];
    await assertRejects(
      () => writeArchive(`${folder}/y.tgz`, gone),
      UsageError,
      "python3: FileNotFoundError",
    );
  }));

Deno.test("run.sh unpacks, tests, then times; a failed test does not keep it from timing, a missing GPU does", () =>
  inFolder(async (folder) => {
    const source = await smallSource(folder), pack = `${folder}/pack`;
    await writePack(pack, source);
    const commit = (await Deno.readTextFile(`${pack}/COMMIT`)).trim(), registry = "http://localhost:9/";
    const test = `task test:gpu npm ${commit}`;
    const bench = `task bench:gpu --out ${pack}/bench_gpu.json npm ${commit}`;
    for (
      const [fail, code, calls, ends] of [
        ["none", 0, [test, bench], 0],
        ["test:gpu", 1, [test, bench], 1],
        ["test:gpu", 2, [test], 2],
        ["bench:gpu", 2, [test, bench], 1],
      ] as const
    ) {
      const log = `${folder}/log`;
      await Deno.writeTextFile(log, "");
      const env = { LOG: log, FAIL: fail, CODE: String(code) };
      const { code: found, stderr } = await run(`${pack}/run.sh`, [`${folder}/work`], { env });
      assertEquals((await Deno.readTextFile(log)).trim().split("\n"), [...calls]);
      assertEquals([found, stderr], [ends, `unpacking to ${folder}/work\n`]);
    }
    for (const [task, code] of [["test:gpu", 7], ["bench:gpu", 0]] as const) { // one task only, with its exit code
      const log = `${folder}/log`, env = { LOG: log, FAIL: "test:gpu", CODE: "7" };
      await Deno.writeTextFile(log, "");
      const { code: found } = await run(`${pack}/run.sh`, [`${folder}/work`, task, "--only", "x"], { env });
      assertEquals(await Deno.readTextFile(log), `task ${task} --only x npm ${commit}\n`);
      assertEquals(found, code);
    }
    assert(
      (await Deno.stat(`${pack}/test_gpu.log`)).isFile && (await Deno.stat(`${pack}/bench_gpu.log`)).isFile,
    );
    assertEquals(await Deno.readTextFile(`${folder}/work/tree/mod.ts`), "export {};\n");
    assertEquals(await Deno.readTextFile(`${folder}/work/tree/.npmrc`), `registry=${registry}\n`);
    assertEquals(await Deno.readTextFile(`${folder}/work/deno/npm/localhost_9/plain/1.2.3/index.js`), "1;\n");
  }));

Deno.test("pack:gpu refuses a folder that is there, and flags that it does not know", () =>
  inFolder(async (folder) => {
    await assertRejects(() => main(["--out", folder, "--quiet"]), UsageError, "it is there already");
    await assertRejects(() => main(["--uot", folder]), UsageError, 'the nearest is "--out"');
  }));
