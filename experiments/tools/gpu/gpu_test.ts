/** `test:gpu` without a GPU: its plan, its counts, and its end where there is no driver. */
import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { buildEmulated } from "../../../ffi/build/emulated_testing.ts";
import { NO_EMULATOR } from "../../../ffi/cuda/testing.ts";
import { fakeTools } from "../../../ffi/build/fake_tools_testing.ts";
import { openDriver } from "../../../ffi/cuda/mod.ts";
import * as driver from "../../../ffi/cuda/driver/fake_driver_testing.ts";
import { noteTested, type TestedBuild, testedBuild, wasTested } from "../../../ffi/cuda/tested.ts";
import { UsageError } from "../../../lib/errors.ts";
import { sha256 } from "../../../lib/sha256.ts";
import { NEEDS_LINUX, unless } from "../../../lib/testing.ts";
import { withFolder } from "../../commands/testing.ts";
import { readState } from "./driver.ts";
import { main, noteOutcome } from "./main.ts";
import {
  ALONE,
  commandOf,
  ensureSanitizer,
  listJobs,
  readFailures,
  runTests,
  type TestCounts,
} from "./run.ts";

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

Deno.test("listJobs() finds the tests of every op and of the driver, and small cases of most ops for racecheck", async () => {
  const products = "kernels/linear/linear_test.ts";
  const [tests, memcheck, racecheck] = await Promise.all(
    (["tests", "memcheck", "racecheck"] as const).map((part) => listJobs(part)),
  );
  const files = tests!.map(({ file }) => file);
  assertEquals(files.toSorted(), files);
  const ops = [
    "rms_norm",
    "kv_filter_scan",
    "kv_filter_step",
    "kv_key_step",
    "nll",
    "rope",
    "filtered_attention",
  ];
  for (const op of [...ops, "linear"]) {
    assert(
      memcheck!.some(({ file }) => file.startsWith(`kernels/${op}/${op}`)) || op === "filtered_attention",
      op,
    );
    assert(files.some((file) => file.startsWith(`kernels/${op}/`)), op);
  }
  for (const name of ["device_cuda", "model_cuda", "evaluation_cuda", "testing"]) {
    assert(files.includes(`ffi/cuda/${name}_test.ts`), name);
  }
  for (const name of ["long", "tasks", "workers"]) {
    assert(files.includes(`experiments/tools/gpu/${name}_cuda_test.ts`), name);
  }
  assert(files.includes(ALONE) && memcheck!.every(({ file }) => file.startsWith("kernels/")));
  assertEquals(tests!.filter(({ withoutLt }) => withoutLt), [{ file: products, withoutLt: true }]);
  assertEquals(files.filter((file) => file === products).length, 2);
  assert(racecheck!.every(({ withoutLt }) => withoutLt));
  const names = racecheck!.map(({ file }) => file.split("/").at(-1)!.replace(/(_cuda)?_test\.ts/, ""));
  for (
    const op of ["decode", "prefill", "kv_filter_scan", "kv_filter_step", "kv_key_step", "linear", "nll"]
  ) {
    assert(names.includes(op), `no small test of ${op} among ${names}`);
  }
  assert(!names.includes("machine"), `${names}`);
});

Deno.test("commandOf() puts a test file under the sanitizer's tools, whose findings are an exit code", () => {
  const file = "kernels/a/a_cuda_test.ts", sanitizer = "/opt/compute-sanitizer";
  assertEquals(commandOf("tests", file, "").slice(1), ["test", "-A", "--no-check", file]);
  const memcheck = commandOf("memcheck", file, sanitizer).join(" ");
  assertMatch(
    memcheck,
    /^\/opt\/compute-sanitizer --tool memcheck --error-exitcode 99 .* kernels\/a\/a_cuda_test\.ts$/,
  );
  const racecheck = commandOf("racecheck", file, sanitizer).join(" ");
  assertMatch(racecheck, /--tool racecheck --error-exitcode 99 .* --filter \/thread order/);
  assert(!racecheck.includes("--report-api-errors"));
});

/** What an expression of JavaScript gives, in a process with further variables. */
async function evaluate(imports: string, expression: string, env: Record<string, string>): Promise<unknown> {
  const code = `${imports}; console.log(JSON.stringify(${expression}))`;
  const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["eval", code],
    cwd: new URL("../../../", import.meta.url),
    env,
  }).output();
  const text = decoder.decode(stdout);
  if (text === "") throw new Error(decoder.decode(stderr));
  return JSON.parse(text);
}

Deno.test({
  ...unless(
    NEEDS_LINUX,
    "ensureSanitizer() finds compute-sanitizer, fetches it with pip once, or gives the reason",
  ),
  fn: () =>
    withFolder(async (folder) => {
      const write = (name: string, script: string) =>
        Deno.writeTextFile(`${folder}/${name}`, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
      const none = "found no compute-sanitizer on PATH or in CUDA_HOME";
      const old = { reason: `${none}, and pip's is for drivers of CUDA 13` };
      assertEquals(await ensureSanitizer(12080, () => {}, folder, folder), old);
      const ensure = () =>
        evaluate(
          `import { ensureSanitizer } from ${JSON.stringify(import.meta.resolve("./run.ts"))}`,
          `await ensureSanitizer(13000, () => {}, "", "/none")`,
          { TOKENFILTER_CACHE: `${folder}/cache`, PATH: `${folder}:/usr/bin:/bin` },
        );
      await write("python3", "echo no network >&2; exit 1");
      assertEquals(await ensure(), { reason: `${none}, and pip has fetched none: no network` });
      const install = (exit: number) =>
        write(
          "python3",
          `echo >> ${folder}/asked; while [ "$1" != --target ]; do shift; done
bin="$2/nvidia/cu13/bin"; mkdir -p "$bin"; printf '#!/bin/sh\\nexit ${exit}\\n' > "$bin/compute-sanitizer"
chmod +x "$bin/compute-sanitizer"`,
        );
      await install(1);
      assertMatch(JSON.stringify(await ensure()), /"reason":".*compute-sanitizer\\" does not run"/);
      await install(0);
      for (let time = 0; time < 2; time++) {
        const { path } = await ensure() as { path: string };
        assertMatch(
          path,
          /\/cache\/nvidia-cuda-sanitizer-api-13\.[^/]+\/nvidia\/cu13\/bin\/compute-sanitizer$/,
        );
      }
      assertEquals(await Deno.readTextFile(`${folder}/asked`), "\n\n");
      await write("compute-sanitizer", "exit 0");
      const own = { path: `${folder}/compute-sanitizer` };
      assertEquals(await ensureSanitizer(13000, () => {}, `/no/such/folder:${folder}`, ""), own);
    }),
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
    () => main(["--files", "nosuch"]),
    UsageError,
    "Cannot use --files nosuch: found no test file",
  );
});

Deno.test("test:gpu ends with one line and code 2 where there is no driver", async () => {
  const script = import.meta.resolve("./main.ts");
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", script],
    cwd: new URL("../../../", import.meta.url),
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
          ...["run", "-A", "--no-check", "experiments/tools/gpu/main.ts"],
          ...["--only", "tests", "--files", files],
        ],
        cwd: new URL("../../../", import.meta.url),
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
      const empty = testedBuild(device, 13000, await sha256(new Uint8Array(0)));
      const note = `import { noteTested } from ${
        JSON.stringify(import.meta.resolve("../../../ffi/cuda/tested.ts"))
      }`;
      await evaluate(note, `await noteTested(${JSON.stringify(empty)}, true) ?? 0`, {
        TOKENFILTER_CACHE: cache,
      });
      assertEquals(Array.from(Deno.readDirSync(cache)).length, 1);
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
