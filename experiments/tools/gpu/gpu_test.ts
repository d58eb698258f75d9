/** `test:gpu` without a GPU: its plan, its outcomes, and its end where there is no driver. */
import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { INTERPRETS_PTX, ptxLibrary, testOnPtx } from "../../../ffi/cuda/testing.ts";
import { fakeTools } from "../../../ffi/build/fake_tools_testing.ts";
import { buildArchOf, openDriver } from "../../../ffi/cuda/mod.ts";
import { noteTested, type TestedBuild, testedBuild, wasTested } from "../../../ffi/cuda/tested.ts";
import { inChild } from "../../../kernels/testing/child.ts";
import { UsageError } from "../../../lib/errors.ts";
import { sha256 } from "../../../lib/sha256.ts";
import { NEEDS_LINUX, unless } from "../../../lib/testing.ts";
import { listFolder, withFolder } from "../../commands/testing.ts";
import { readState } from "./driver.ts";
import { command, noteOutcome } from "./main.ts";
import { ALONE, ensureSanitizer, listJobs, runJob } from "./run.ts";

const ROOT = new URL("../../../", import.meta.url);

Deno.test("listJobs() finds the tests of every op and of the driver, and small cases of most ops for racecheck", async () => {
  const [tests, memcheck, racecheck] = (["tests", "memcheck", "racecheck"] as const).map(listJobs);
  const files = tests!.map(({ file }) => file), products = "kernels/linear/tests/linear_test.ts";
  const isOf = (op: string) => ({ file }: { file: string }) => file.startsWith(`kernels/${op}/`);
  for (const op of ["rms_norm", "rope", "filtered_attention", "linear", "nll"]) {
    assert(tests!.some(isOf(op)), op);
  }
  for (
    const op of ["filtered_attention", "kv_filter_scan", "kv_filter_step", "kv_key_step", "linear", "nll"]
  ) {
    assert(racecheck!.some(isOf(op)), op);
  }
  assert(
    !racecheck!.some(({ file }) => file.endsWith("/machine_test.ts")) &&
      racecheck!.every(({ withoutLt }) => withoutLt),
  );
  assert(memcheck!.length > 10 && memcheck!.every(({ file }) => file.startsWith("kernels/")));
  assert(files.includes(ALONE) && files.includes("ffi/cuda/workers_cuda_test.ts"));
  const { stdout } = await new Deno.Command("git", { args: ["ls-files", "*_cuda_test.ts"], cwd: ROOT })
    .output();
  const listed = new TextDecoder().decode(stdout).trim().split("\n");
  assertEquals(listed.filter((file) => !files.includes(file)), []);
  const how = tests!.filter(({ file }) => file === products).map(({ withoutLt }) => withoutLt);
  assertEquals([how, tests!.filter(({ withoutLt }) => withoutLt).length], [[false, true], 1]);
});

Deno.test({
  ...unless(NEEDS_LINUX, "runJob() fails on failed tests, crashes, findings and runs without an end"),
  fn: () =>
    withFolder(async (folder) => {
      const passes = `Deno.test("passes on " + Deno.env.get("TOKENFILTER_TEST_DEVICE"), () => {});\n`;
      const hangs = `Deno.test("hangs", async () => {
  console.log("child " + new Deno.Command("sleep", { args: ["60"] }).spawn().pid);
  await new Promise((done) => setTimeout(done, 60_000));
});`;
      const run = async (text: string, before: readonly string[] = [], limit = "60") => {
        await Deno.writeTextFile(`${folder}/some_test.ts`, text);
        const test = [Deno.execPath(), "test", "-A", "--no-check", "--no-config", "--no-lock"];
        return await runJob(["timeout", limit, ...before, ...test, `${folder}/some_test.ts`], {
          withoutLt: true,
        });
      };
      const checker = ["/bin/sh", "-c", '"$@"; exit 99', "checker"];
      for (
        const [text, before, success, passed, said] of [
          [passes, [], true, 1, /passes on cuda .* ok/],
          [
            `${passes}Deno.test("breaks", () => { throw new Error("broken"); });`,
            [],
            false,
            1,
            /Error: broken/,
          ],
          [
            `${passes}Deno.test("ends", () => Deno.kill(Deno.pid, "SIGKILL"));`,
            [],
            false,
            0,
            /exit code 137/,
          ],
          [passes, checker, false, 1, /exit code 99/],
        ] as const
      ) {
        const found = await run(text, before);
        assertEquals([found.success, found.passed], [success, passed], found.output);
        assertMatch(found.output, said);
      }
      const { success, output } = await run(hangs, [], "5");
      assertEquals(success, false);
      assertMatch(output, /exit code 124: found no end/);
      const state = () =>
        Deno.readTextFile(`/proc/${output.match(/child (\d+)/)![1]}/stat`).catch(() => ") gone");
      // A process that was killed takes a moment to end where the machine is busy.
      for (let wait = 0; wait < 500 && /\) [SR] /.test(await state()); wait++) {
        await new Promise((done) => setTimeout(done, 20));
      }
      assert(!/\) [SR] /.test(await state()), "what a test has started ends with it");
    }),
});

Deno.test({
  ...unless(NEEDS_LINUX, "ensureSanitizer() takes that of PATH or CUDA_HOME, or gives the reason"),
  fn: () =>
    withFolder(async (folder) => {
      const ensure = (driver: number) =>
        inChild(
          { TOKENFILTER_CACHE: `${folder}/cache`, PATH: "/none", CUDA_HOME: folder },
          `const { ensureSanitizer } = await load("experiments/tools/gpu/run.ts");
           return await ensureSanitizer(${driver}, () => {});`,
        ) as Promise<{ path?: string; reason?: string }>;
      const none = "found no compute-sanitizer on PATH or in CUDA_HOME";
      assertEquals(await ensure(12080), { reason: `${none}, and pip's is for drivers of CUDA 13` });
      assertMatch((await ensure(13000)).reason!, new RegExp(`^${none}; pip has fetched none`));
      await Deno.mkdir(`${folder}/bin`);
      await Deno.writeTextFile(`${folder}/bin/compute-sanitizer`, "#!/bin/sh\n", { mode: 0o755 });
      assertEquals(await ensureSanitizer(13000, () => {}, folder), {
        path: `${folder}/bin/compute-sanitizer`,
      });
    }),
});

Deno.test("readState() reads nvidia-smi's answer, and leaves out what it does not know", () => {
  const answer = "580.65.06, 345 MHz, 2619 MHz, 1980 MHz, 2619 MHz, 700.00 W, 31, Enabled, [N/A], Default\n";
  const { driver_version, "clocks.max.sm": clock, ...rest } = readState(answer);
  assertEquals([driver_version, clock, "mig.mode.current" in rest], ["580.65.06", "1980 MHz", false]);
  assertEquals(readState("No devices were found\n"), {});
});

Deno.test({
  ...unless(
    INTERPRETS_PTX && "the interpreter takes no record",
    "noteOutcome() notes that all tests of a build have passed, until one fails",
  ),
  fn: async () => {
    // In the usual cache, under a name of its own: test files that run at the same time share their variables.
    const build = { device: "NVIDIA H100", arch: 90, driver: 13000, library: crypto.randomUUID() };
    const good = { passed: 9, failed: [] },
      bad = { passed: 9, failed: ["a"] },
      other = { ...build, library: "another" };
    const cases: [TestedBuild, boolean, typeof bad, number, boolean][] = [
      [build, false, good, 0, false],
      [build, true, { ...good, passed: 0 }, 0, false],
      [build, true, good, 1, true],
      [build, false, good, 0, true],
      [other, false, good, 0, false],
      [build, false, bad, 0, false],
      [build, true, bad, 0, false],
      [{ ...build, arch: 80 }, true, good, 0, true], // it has neither
    ];
    try {
      for (const [of, ranAll, total, lines, noted] of cases) {
        assertEquals([(await noteOutcome(of, ranAll, total)).length, await wasTested(of)], [lines, noted]);
      }
    } finally {
      for (const arch of [80, 90]) await noteTested({ ...build, arch }, false);
    }
  },
});

Deno.test("test:gpu refuses flags that it does not know, and ends with one line where there is no driver", async () => {
  for (const args of [["--onyl", "tests"], ["--only", "x"], ["--files", "nosuch"]]) {
    await assertRejects(
      () => command.main(args),
      UsageError,
      `Cannot use ${args[0] === "--onyl" ? 'flag "--onyl"' : args[0]}`,
    );
  }
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", import.meta.resolve("./main.ts")],
    cwd: ROOT,
    env: { TOKENFILTER_CUDA_DRIVER: "no-such-driver.so" },
  }).output();
  assertEquals([code, stdout.length], [2, 0]);
  assertMatch(
    new TextDecoder().decode(stderr),
    /^Cannot use CUDA: found no driver .*no-such-driver\.so.*\n$/,
  );
});

testOnPtx("test:gpu says what ran on which device, and leaves with code 1 where a test failed", async () => {
  const { folder, env } = await fakeTools("13.0.88", "");
  const own = {
    ...env,
    TOKENFILTER_TEST_DEVICE: "",
    TOKENFILTER_CUDA_LIBRARY: "",
    TOKENFILTER_CUBLASLT: "none",
  };
  const device = openDriver(ptxLibrary()).device(0), arch = buildArchOf(device.arch);
  const run = async (files: string, LINKED: string) => {
    const variables = { ...own, LINKED, TOKENFILTER_CACHE: `${folder}/${files}` };
    const library: string = await inChild(
      variables,
      `const { buildCuda } = await load("build.ts");
       return (await buildCuda({ archs: ["${arch}"] })).path;`,
    );
    const args = [
      "run",
      "-A",
      "--no-check",
      import.meta.resolve("./main.ts"),
      "--only",
      "tests",
      "--files",
      files,
    ];
    const driver = LINKED === ptxLibrary() ? library : ptxLibrary(); // the library is its driver too
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args,
      cwd: ROOT,
      env: { ...variables, TOKENFILTER_CUDA_DRIVER: driver },
    }).output();
    const [lines, said] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
    return { code, lines: lines!.trim().split("\n"), said };
  };
  try {
    const whole = await run("machine", ptxLibrary());
    assertEquals(whole.code, 0, whole.said + whole.lines.join("\n"));
    assertMatch(
      whole.lines[0]!,
      /^PTX interpreter, sm_\d+, driver .* for CUDA 13\.0, nvcc 13\.0\.88, commit /,
    );
    assertEquals(whole.lines.slice(1), ["1 tests passed in 1 files, 0 files failed"]);
    // A run of some files writes no record; a failure removes one.
    await Deno.mkdir(`${folder}/rms_norm`);
    const empty = await sha256(new Uint8Array(0));
    await inChild(
      { TOKENFILTER_CACHE: `${folder}/rms_norm` },
      `const { noteTested } = await load("ffi/cuda/tested.ts");
         await noteTested(${JSON.stringify(testedBuild(device, 13000, empty))}, true);
         return 0;`,
    );
    assertEquals(listFolder(`${folder}/rms_norm`).length, 1);
    const broken = await run("rms_norm", "/dev/null");
    for (const name of ["machine", "rms_norm"]) {
      assertEquals(listFolder(`${folder}/${name}`).filter((name) => name.startsWith("gpu-tested")), [], name);
    }
    assertEquals(broken.code, 1, broken.said);
    assertEquals(broken.lines.slice(-2), [
      "failed: tests, kernels/rms_norm/rms_norm_test.ts",
      "0 tests passed in 1 files, 1 files failed",
    ]);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
