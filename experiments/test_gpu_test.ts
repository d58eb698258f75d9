/** `test:gpu` without a GPU: what it would run, how it counts, and how it ends where there is no driver. */
import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { UsageError } from "../mod.ts";
import { describeCounts, main } from "./test_gpu.ts";
import { commandOf, findSanitizer, listGpuTests } from "./test_gpu/plan.ts";
import { readSummary, runTests } from "./test_gpu/run.ts";

const decoder = new TextDecoder();

/** Runs a test file of the given text, under the given program if any. */
async function runText(text: string, around: readonly string[] = []) {
  const folder = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(`${folder}/some_test.ts`, text);
    let said = "";
    const counts = await runTests({
      command: [
        ...around,
        Deno.execPath(),
        "test",
        "-A",
        "--no-check",
        "--no-config",
        "--no-lock",
        "some_test.ts",
      ],
      cwd: new URL(`file://${folder}/`),
      env: { TOKENFILTER_TEST_DEVICE: "cuda" },
      onOutput: (bytes) => said += decoder.decode(bytes),
    });
    return { counts, said };
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("listGpuTests() finds the tests of every op and of the driver", async () => {
  const { kernels, driver } = await listGpuTests();
  for (const op of ["linear", "rms_norm", "kv_filter_scan", "kv_filter_step", "nll", "rope"]) {
    assert(kernels.includes(`kernels/${op}/${op}_cuda_test.ts`), op);
  }
  for (const name of ["filtered_attention", "decode", "prefill"]) {
    assert(kernels.includes(`kernels/filtered_attention/${name}_cuda_test.ts`), name);
  }
  for (const name of ["driver", "llama_cuda", "symbols", "testing"]) {
    assert(driver.includes(`ffi/cuda/${name}_test.ts`), name);
  }
  assertEquals(kernels.toSorted(), kernels);
});

Deno.test("commandOf() puts the kernels' tests under the sanitizer's tools, whose findings are an exit code", () => {
  const files = { kernels: ["kernels/a/a_cuda_test.ts"], driver: ["ffi/cuda/b_test.ts"] };
  const plain = commandOf("tests", files, ["--lock=x"], "");
  assertEquals(plain.slice(1), ["test", "-A", "--no-check", "--lock=x", ...files.kernels, ...files.driver]);
  const memcheck = commandOf("memcheck", files, [], "/opt/compute-sanitizer").join(" ");
  assertMatch(
    memcheck,
    /^\/opt\/compute-sanitizer --tool memcheck --error-exitcode 99 .* kernels\/a\/a_cuda_test\.ts$/,
  );
  const racecheck = commandOf("racecheck", files, [], "/opt/compute-sanitizer").join(" ");
  assertMatch(racecheck, /--tool racecheck --error-exitcode 99 .* --filter \/thread order/);
  assert(!racecheck.includes("--report-api-errors"));
});

Deno.test("racecheck's filter takes tests of most ops", async () => {
  const filter = commandOf("racecheck", { kernels: [], driver: [] }, [], "x").at(-1)!.slice(1, -1);
  const { kernels } = await listGpuTests(), names: string[] = [];
  for (const path of kernels) {
    const text = await Deno.readTextFile(new URL(`../${path}`, import.meta.url));
    if ([...text.matchAll(/Deno\.test\("([^"]+)"/g)].some(([, name]) => new RegExp(filter).test(name!))) {
      names.push(path.split("/").at(-1)!.replace("_cuda_test.ts", ""));
    }
  }
  for (const op of ["decode", "prefill", "kv_filter_scan", "kv_filter_step", "linear", "nll", "rms_norm"]) {
    assert(names.includes(op), `no small test of ${op} among ${names}`);
  }
});

Deno.test("findSanitizer() looks on PATH, then in CUDA_HOME, for a program", async () => {
  const folder = await Deno.makeTempDir();
  try {
    await Deno.mkdir(`${folder}/compute-sanitizer`);
    await Deno.mkdir(`${folder}/bin`);
    assertEquals(await findSanitizer(`${folder}:/no/such/folder`, folder), undefined);
    const path = `${folder}/bin/compute-sanitizer`;
    await Deno.writeTextFile(path, "#!/bin/sh\n");
    assertEquals(await findSanitizer("", folder), undefined); // not a program yet
    await Deno.chmod(path, 0o755);
    assertEquals(await findSanitizer("", folder), path);
    assertEquals(await findSanitizer(`/no/such/folder:${folder}/bin`, ""), path);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
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

Deno.test("runTests() counts, shows what is said, and hands the device on", async () => {
  const { counts, said } = await runText(`
    Deno.test("on " + Deno.env.get("TOKENFILTER_TEST_DEVICE"), () => {});
    Deno.test("breaks", () => { throw new Error("broken"); });
    Deno.test({ name: "left out", ignore: true, fn() {} });`);
  assertEquals(counts, { passed: 1, failed: 1, ignored: 1 });
  assertMatch(said, /on cuda \.\.\. ok/);
});

Deno.test("runTests() counts a crash, and what a checker found, as a failure", async () => {
  const crash = await runText(`Deno.test("ends", () => { Deno.kill(Deno.pid, "SIGKILL"); });`);
  assertEquals(crash.counts, { passed: 0, failed: 1, ignored: 0 });
  const passing = `Deno.test("passes", () => {});`;
  const checked = await runText(passing, ["/bin/sh", "-c", '"$@"; exit 99', "checker"]);
  assertEquals(checked.counts, { passed: 1, failed: 1, ignored: 0 });
  assertEquals((await runText(passing)).counts, { passed: 1, failed: 0, ignored: 0 });
});

Deno.test("test:gpu refuses flags that it does not know", async () => {
  await assertRejects(() => main(["--onyl", "tests"]), UsageError, 'the nearest is "--only"');
  await assertRejects(() => main(["--only", "x"]), UsageError, "expected one of tests, memcheck, racecheck");
});

Deno.test("test:gpu ends with one line and code 2 where there is no driver", async () => {
  const script = new URL("test_gpu.ts", import.meta.url).pathname;
  const flags = (await import("./cli/std_flags.ts")).readStdFlags();
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", ...await flags, script],
    cwd: new URL("../", import.meta.url),
    env: { TOKENFILTER_CUDA_DRIVER: "no-such-driver.so" },
  }).output();
  assertEquals([code, decoder.decode(stdout)], [2, ""]);
  assertMatch(
    decoder.decode(stderr),
    /^Cannot use CUDA: found no driver .*no-such-driver\.so.*\n$/,
  );
});
