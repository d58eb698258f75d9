/** `test:gpu` without a GPU: its plan, its counts, and its end where there is no driver. */
import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { buildEmulated } from "../../ffi/build/emulated_testing.ts";
import { NO_EMULATOR } from "../../ffi/cuda/testing.ts";
import { fakeTools } from "../../ffi/build/fake_tools_testing.ts";
import { openDriver } from "../../ffi/cuda/mod.ts";
import * as driver from "../../ffi/cuda/fake_driver_testing.ts";
import { noteTested, type TestedBuild, testedBuild, testedPath, wasTested } from "../../ffi/cuda/tested.ts";
import { UsageError } from "../../lib/errors.ts";
import { sha256 } from "../../lib/sha256.ts";
import { NEEDS_LINUX, unless } from "../../lib/testing.ts";
import { readStdFlags } from "../commands/cli/machine/deno.ts";
import { withFolder, withVariables } from "../commands/testing.ts";
import { describeCounts, main, noteOutcome } from "./test_gpu.ts";
import { readState } from "./bench_gpu/machine.ts";
import { commandOf, ensureSanitizer, findSanitizer, jobsOf, listGpuTests } from "./test_gpu/plan.ts";
import { readFailures, readSummary, runTests, type TestCounts } from "./test_gpu/run.ts";

const decoder = new TextDecoder();

/** Runs a test file of the given text, under the given program if any. */
async function runText(text: string, around: readonly string[] = [], limit = 60) {
  const folder = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(`${folder}/some_test.ts`, text);
    const test = [Deno.execPath(), "test", "-A", "--no-check", "--no-config", "--no-lock", "some_test.ts"];
    return await runTests([...around, ...test] as [string, ...string[]], {
      cwd: new URL(`file://${folder}/`),
      env: { TOKENFILTER_TEST_DEVICE: "cuda" },
      limit,
    });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("listGpuTests() finds the tests of every op and of the driver", async () => {
  const { kernels, driver } = await listGpuTests();
  for (
    const op of [
      "linear",
      "rms_norm",
      "kv_filter_scan",
      "kv_filter_step",
      "kv_key_step",
      "nll",
      "rope",
      "filtered_attention",
    ]
  ) {
    const names = [`${op}_test.ts`, `${op}_cuda_test.ts`].map((name) => `kernels/${op}/${name}`);
    assert(names.some((name) => kernels.includes(name)), op);
  }
  for (const name of ["decode", "prefill"]) {
    assert(kernels.includes(`kernels/filtered_attention/${name}_cuda_test.ts`), name);
  }
  for (const name of ["device_cuda", "model_cuda", "evaluation_cuda", "testing"]) {
    assert(driver.includes(`ffi/cuda/${name}_test.ts`), name);
  }
  for (const name of ["long", "tasks", "workers"]) {
    assert(driver.includes(`experiments/tools/test_gpu/${name}_cuda_test.ts`), name);
  }
  assertEquals(kernels.toSorted(), kernels);
});

Deno.test("commandOf() puts a test file under the sanitizer's tools, whose findings are an exit code", () => {
  const file = "kernels/a/a_cuda_test.ts";
  assertEquals(commandOf("tests", file, ["--lock=x"], "").slice(1), [
    "test",
    "-A",
    "--no-check",
    "--lock=x",
    file,
  ]);
  const memcheck = commandOf("memcheck", file, [], "/opt/compute-sanitizer").join(" ");
  assertMatch(
    memcheck,
    /^\/opt\/compute-sanitizer --tool memcheck --error-exitcode 99 .* kernels\/a\/a_cuda_test\.ts$/,
  );
  const racecheck = commandOf("racecheck", file, [], "/opt/compute-sanitizer").join(" ");
  assertMatch(racecheck, /--tool racecheck --error-exitcode 99 .* --filter \/thread order/);
  assert(!racecheck.includes("--report-api-errors"));
});

Deno.test("jobsOf() runs every file, products with and without cuBLASLt, and small cases of most ops under racecheck", async () => {
  const files = await listGpuTests(), products = "kernels/linear/linear_test.ts";
  const tests = await jobsOf("tests", files), memcheck = await jobsOf("memcheck", files);
  assertEquals(
    tests.map(({ file }) => file),
    [...files.driver, ...files.kernels].flatMap((file) => file === products ? [file, file] : [file]),
  );
  assertEquals(memcheck.length, files.kernels.length + 1);
  assertEquals(tests.filter(({ alone }) => alone).map(({ file }) => file), ["ffi/cuda/device_cuda_test.ts"]);
  assert(memcheck.every(({ alone }) => !alone));
  assertEquals(
    tests.filter(({ file }) => file === products).map(({ env }) => env),
    [{}, { TOKENFILTER_CUBLASLT: "none" }] as Record<string, string>[],
  );
  const racecheck = await jobsOf("racecheck", files);
  assert(racecheck.every(({ env }) => env.TOKENFILTER_CUBLASLT === "none"));
  const names = racecheck.map(({ file }) => file.split("/").at(-1)!.replace(/(_cuda)?_test\.ts/, ""));
  for (
    const op of [
      "decode",
      "prefill",
      "kv_filter_scan",
      "kv_filter_step",
      "kv_key_step",
      "linear",
      "nll",
      "rms_norm",
    ]
  ) {
    assert(names.includes(op), `no small test of ${op} among ${names}`);
  }
  assert(!names.includes("machine"), `${names}`);
});

Deno.test("findSanitizer() looks on PATH, then in CUDA_HOME, for a program", async () => {
  const folder = await Deno.makeTempDir();
  try {
    await Deno.mkdir(`${folder}/compute-sanitizer`);
    await Deno.mkdir(`${folder}/bin`);
    assertEquals(findSanitizer(`${folder}:/no/such/folder`, folder), undefined);
    const path = `${folder}/bin/compute-sanitizer`;
    await Deno.writeTextFile(path, "#!/bin/sh\n");
    assertEquals(findSanitizer("", folder), undefined); // not a program yet
    await Deno.chmod(path, 0o755);
    assertEquals(findSanitizer("", folder), path);
    assertEquals(findSanitizer(`/no/such/folder:${folder}/bin`, ""), path);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test({
  ...unless(
    NEEDS_LINUX || findSanitizer() !== undefined && "compute-sanitizer is installed",
    "ensureSanitizer() fetches compute-sanitizer with pip, once, or gives the reason",
  ),
  fn: () =>
    withFolder((folder) =>
      withVariables({ TOKENFILTER_CACHE: `${folder}/cache`, PATH: `${folder}:/usr/bin:/bin` }, async () => {
        const pip = (script: string) =>
          Deno.writeTextFile(`${folder}/python3`, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
        const said: string[] = [],
          ensure = (version = 13000) => ensureSanitizer(version, (line) => said.push(line));
        await pip("echo no network >&2; exit 1");
        const none = "found no compute-sanitizer on PATH or in CUDA_HOME";
        assertEquals(await ensure(12080), { reason: `${none}, and pip's is for drivers of CUDA 13` });
        assertEquals(await ensure(), { reason: `${none}, and pip has fetched none: no network` });
        assertEquals([...Deno.readDirSync(`${folder}/cache`)], []);
        const install = (exit: number) =>
          pip(`while [ "$1" != --target ]; do shift; done
bin="$2/nvidia/cu13/bin"; mkdir -p "$bin"; printf '#!/bin/sh\\nexit ${exit}\\n' > "$bin/compute-sanitizer"
chmod +x "$bin/compute-sanitizer"`);
        await install(1);
        assertMatch(JSON.stringify(await ensure()), /"reason":".*compute-sanitizer\\" does not run"/);
        await install(0);
        for (let time = 0; time < 2; time++) {
          const found = await ensure() as { path: string };
          assertMatch(
            found.path,
            /\/cache\/nvidia-cuda-sanitizer-api-13\.[^/]+\/nvidia\/cu13\/bin\/compute-sanitizer$/,
          );
        }
        assertEquals(said.length, 3);
      })
    ),
});

Deno.test("readSummary() reads what deno test says last", () => {
  assertEquals(readSummary("ok | 3 passed | 0 failed (2s)\n"), { passed: 3, failed: 0, ignored: 0 });
  assertEquals(
    readSummary("x\n\x1b[0mFAILED\x1b[0m | 3 passed (4 steps) | 2 failed | 1 ignored (2m1s)\n"),
    { passed: 3, failed: 2, ignored: 1 },
  );
  assertEquals(readSummary("error: no tests"), undefined);
  assertEquals(describeCounts({ passed: 3, failed: 0, ignored: 1 }), "3 passed, 0 failed, 1 ignored");
});

Deno.test("runTests() counts, shows what is printed, and hands the device on", async () => {
  const { counts, output } = await runText(`
    Deno.test("on " + Deno.env.get("TOKENFILTER_TEST_DEVICE"), () => {});
    Deno.test("breaks", () => { throw new Error("broken"); });
    Deno.test({ name: "left out", ignore: true, fn() {} });`);
  assertEquals(counts, { passed: 1, failed: 1, ignored: 1 });
  assertMatch(output, /on cuda \.\.\. ok/);
});

Deno.test("runTests() counts a crash, and what a checker found, as a failure", async () => {
  const crash = await runText(`Deno.test("ends", () => { Deno.kill(Deno.pid, "SIGKILL"); });`);
  assertEquals(crash.counts, { passed: 0, failed: 1, ignored: 0 });
  const passing = `Deno.test("passes", () => {});`;
  const checked = await runText(passing, ["/bin/sh", "-c", '"$@"; exit 99', "checker"]);
  assertEquals(checked.counts, { passed: 1, failed: 1, ignored: 0 });
  assertEquals((await runText(passing)).counts, { passed: 1, failed: 0, ignored: 0 });
});

Deno.test("runTests() ends what does not end, with what it has started", async () => {
  const began = performance.now();
  const hangs = `Deno.test("first", () => {});
    Deno.test("hangs", async () => {
      const child = new Deno.Command("sleep", { args: ["60"] }).spawn();
      await Deno.writeTextFile("pid", String(child.pid));
      console.log("child " + child.pid + " sleeps");
      while (true);
    });`;
  const { counts, output } = await runText(hangs, [], 3);
  assertEquals(counts, { passed: 0, failed: 1, ignored: 0 });
  assert(performance.now() - began < 30_000);
  assertEquals(readFailures(output), ["found no end after 3 s"]);
  const pid = Number(output.match(/child (\d+) sleeps/)![1]);
  const stateOf = () => Deno.readTextFile(`/proc/${pid}/stat`).catch(() => ") gone");
  // A process that was killed takes a moment to end where the machine is busy.
  while (/\) [SR] /.test(await stateOf()) && performance.now() - began < 30_000) {
    await new Promise((done) => setTimeout(done, 20));
  }
  assert(!/\) [SR] /.test(await stateOf()), await stateOf());
});

Deno.test("readFailures() tells failed tests, a checker's findings, or the last words", async () => {
  const { output } = await runText(`
    Deno.test("passes", () => {});
    Deno.test("breaks", () => { throw new Error("it is broken\\nand more"); });`);
  assertEquals(readFailures(output), ["breaks: Error: it is broken"]);
  const checker = `========= COMPUTE-SANITIZER
ok | 3 passed | 0 failed (2s)
========= Invalid __global__ read of size 4 bytes
=========     at nll_kernel(const float *)+0x150
=========     Saved host backtrace up to driver entry point at kernel launch time
=========         Host Frame: main
=========
========= ERROR SUMMARY: 1 error
`;
  assertEquals(readFailures(checker), [
    "Invalid __global__ read of size 4 bytes",
    "at nll_kernel(const float *)+0x150",
  ]);
  assertEquals(readFailures("error: Uncaught (in promise) Error: x\n\n"), [
    "it ended with: error: Uncaught (in promise) Error: x",
  ]);
  const many = Array.from({ length: 20 }, (_, i) => `========= line ${i}`).join("\n");
  assertEquals(readFailures(many).slice(7), ["line 7", "and 12 lines more"]);
});

Deno.test("readState() reads what nvidia-smi says, and leaves out what it does not know", () => {
  const answer = "580.65.06, 345 MHz, 2619 MHz, 1980 MHz, 2619 MHz, 700.00 W, 31, Enabled, [N/A], Default\n";
  const { driver_version, "clocks.max.sm": clock, ...rest } = readState(answer);
  assertEquals([driver_version, clock, "mig.mode.current" in rest], ["580.65.06", "1980 MHz", false]);
  assertEquals(readState("No devices were found\n"), {});
});

Deno.test("noteOutcome() notes that all tests of a build have passed, until one fails", async () => {
  // In the usual cache, under a name of its own: test files that run at the same time share their variables.
  const build = { device: "NVIDIA H100", arch: 90, driver: 13000, library: crypto.randomUUID() };
  const good = { passed: 9, failed: 0, ignored: 1 }, bad = { ...good, failed: 1 };
  const outcomes = async (of: TestedBuild, ranAll: boolean, counts: TestCounts) => [
    (await noteOutcome(of, ranAll, counts)).length,
    await wasTested(of),
  ];
  try {
    assertEquals(await outcomes(build, false, good), [0, false]);
    assertEquals(await outcomes(build, true, { ...good, passed: 0 }), [0, false]);
    assertEquals(await outcomes(build, true, good), [1, true]);
    assertEquals(await outcomes(build, false, good), [0, true]);
    assertEquals(await outcomes({ ...build, library: "another" }, false, good), [0, false]);
    assertEquals(await outcomes(build, false, bad), [0, false]);
    assertEquals(await outcomes(build, true, bad), [0, false]);
    assertEquals(await outcomes({ ...build, arch: 80 }, true, good), [0, true]); // it has neither
  } finally {
    for (const arch of [80, 90]) await noteTested({ ...build, arch }, false);
  }
});

Deno.test("test:gpu refuses flags that it does not know", async () => {
  await assertRejects(() => main(["--onyl", "tests"]), UsageError, 'the nearest is "--only"');
  await assertRejects(() => main(["--only", "x"]), UsageError, "expected one of tests, memcheck, racecheck");
  await assertRejects(
    () => main(["--limit", "0"]),
    UsageError,
    "Cannot use --limit 0: expected an integer of at least 1",
  );
  await assertRejects(
    () => main(["--files", "nosuch"]),
    UsageError,
    "Cannot use --files nosuch: found no test file",
  );
});

Deno.test("test:gpu ends with one line and code 2 where there is no driver", async () => {
  const script = new URL("test_gpu.ts", import.meta.url).pathname;
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", ...await readStdFlags(), script],
    cwd: new URL("../../", import.meta.url),
    env: { TOKENFILTER_CUDA_DRIVER: "no-such-driver.so" },
  }).output();
  assertEquals([code, decoder.decode(stdout)], [2, ""]);
  assertMatch(
    decoder.decode(stderr),
    /^Cannot use CUDA: found no driver .*no-such-driver\.so.*\n$/,
  );
});

Deno.test({
  ...unless(
    NO_EMULATOR || NEEDS_LINUX,
    "test:gpu says what ran on which device, and leaves with code 1 where a test failed",
  ),
  fn: async () => {
    const { folder, env } = await fakeTools("13.0.88", "");
    driver.driverWith(); // with its defaults
    const run = async (files: string, library: string) => {
      const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
        args: [
          ...["run", "-A", "--no-check", ...await readStdFlags(), "experiments/tools/test_gpu.ts"],
          ...["--only", "tests", "--files", files],
        ],
        cwd: new URL("../../", import.meta.url),
        env: {
          ...env,
          TOKENFILTER_CUDA_DRIVER: driver.path,
          TOKENFILTER_CUBLASLT: "none",
          TOKENFILTER_CACHE: `${folder}/${files.replace("/", "_")}`,
          LINKED: library,
        },
      }).output();
      return { code, lines: decoder.decode(stdout).trim().split("\n"), stderr: decoder.decode(stderr) };
    };
    try {
      const whole = await run("machine", (await buildEmulated()).path);
      assertEquals(whole.code, 0, whole.stderr);
      assertMatch(whole.lines[0]!, /^Stand-in 0, sm_90, driver .* for CUDA 13\.0, nvcc 13\.0\.88, commit /);
      assertMatch(whole.lines[1]!, /^tests: 1 passed, 0 failed, 2 ignored in \d+ s$/);
      assertEquals(whole.lines.slice(2), ["1 passed, 0 failed, 2 ignored"]);
      // A run of some files writes no record; a failure removes one.
      const cache = `${folder}/rms_norm`, device = openDriver(driver.path).device(0);
      await Deno.mkdir(cache);
      await withVariables({ TOKENFILTER_CACHE: cache }, async () => {
        const empty = testedBuild(device, 13000, await sha256(new Uint8Array(0)));
        await noteTested(empty, true);
        assertEquals(await Array.fromAsync(Deno.readDir(cache), ({ name }) => name), [
          (await testedPath(empty)).slice(cache.length + 1),
        ]);
      });
      const broken = await run("rms_norm", "/dev/null");
      for (const name of ["machine", "rms_norm"]) {
        const noted = Array.from(Deno.readDirSync(`${folder}/${name}`), ({ name }) => name);
        assertEquals(noted.filter((name) => name.startsWith("gpu-tested")), [], name);
      }
      assertEquals(broken.code, 1, broken.stderr);
      assertMatch(broken.lines.at(-1)!, /^0 passed, [1-9] failed, [1-9] ignored$/);
      assertMatch(broken.lines.join("\n"), /^failed: tests, kernels\/rms_norm\/rms_norm_test\.ts: /m);
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  },
});
