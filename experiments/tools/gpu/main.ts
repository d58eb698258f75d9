/**
 * `deno task test:gpu`: the tests of the CUDA library on the first GPU, with the cases that the emulator runs.
 * See `deno task test:gpu --help`.
 */
import { UsageError } from "../../../lib/errors.ts";
import { buildArchOf, noteTested, openDriver, type TestedBuild, testedBuild } from "../../../ffi/cuda/mod.ts";
import { buildCuda } from "../../../build.ts";
import { ensureCublasLt } from "../../../ffi/build/cublaslt.ts";
import { inParallel } from "../../../ffi/build/command.ts";
import { expectChoice, parseOwnFlags } from "../../commands/cli/flags/parse.ts";
import { formatDuration, Progress } from "../../commands/cli/output/progress.ts";
import { Interrupt } from "../../commands/cli/run/interrupt.ts";
import { EXIT, runTask, writeLine } from "../../commands/cli/task.ts";
import { describeDriver } from "./driver.ts";
import {
  ALONE,
  commandOf,
  ensureSanitizer,
  type Job,
  LIMITS,
  listJobs,
  type Part,
  readFailures,
  runTests,
  type TestCounts,
} from "./run.ts";

/** The exit code where a test failed. */
const EXIT_FAILED = 1;
/** Files at once: each computes its references on a core of the CPU, next to the library's own threads. */
const AT_ONCE = Math.max(1, Math.min(4, navigator.hardwareConcurrency >> 2));
const PARTS = Object.keys(LIMITS) as Part[];
export const USAGE = `Usage: deno task test:gpu [flags]

Builds the CUDA library for the first GPU (CUDA_VISIBLE_DEVICES chooses which is first) and runs every test of the
kernels and of the driver's wrapper on it, with the cases that the emulator runs elsewhere. Then the kernels' tests
again under compute-sanitizer's memcheck, and those with small cases under its racecheck. It comes from PATH, from CUDA_HOME
(/usr/local/cuda) or from pip. A file is a process of its own. The output of a failing one is shown in full, and in
short at the end. Where all tests have passed, wgmma and dependent launches become the default for this device, driver and
build. Exit code 0: all passed; 1: a test failed or a check found something; 2: no GPU, or no build.

  --only ${PARTS.join("|")}
      only one part
  --files TEXT
      only files whose path contains it, such as filtered_attention or nll
  --help
      print this`;

/** Counts in words. */
function describeCounts({ passed, failed, ignored }: TestCounts): string {
  return `${passed} passed, ${failed} failed${ignored > 0 ? `, ${ignored} ignored` : ""}`;
}

/** Runs jobs, some at once; the output of a failed one is shown when it has ended. */
async function runPart(
  part: Part,
  jobs: readonly Job[],
  sanitizer: string,
  { atOnce, progress, signal }: {
    readonly atOnce: number;
    readonly progress: Progress;
    readonly signal: AbortSignal;
  },
): Promise<{ total: TestCounts; failures: string[] }> {
  const failures: string[] = [], total = { passed: 0, failed: 0, ignored: 0 };
  let ended = 0;
  progress.start();
  const runJob = async ({ file, withoutLt }: Job) => {
    if (signal.aborted) return;
    const started = performance.now(), words = withoutLt ? `${file} without cuBLASLt` : file;
    const { counts, output } = await runTests(commandOf(part, file, sanitizer), {
      cwd: new URL("../../../", import.meta.url),
      env: {
        ...{ TOKENFILTER_TEST_DEVICE: "cuda", TOKENFILTER_TEST_SLOW: "1" },
        ...(withoutLt && { TOKENFILTER_CUBLASLT: "none" }),
      },
      limit: LIMITS[part],
      signal,
    });
    if (signal.aborted) return;
    for (const name of ["passed", "failed", "ignored"] as const) total[name] += counts[name];
    const line = `${part}, ${words}: ${describeCounts(counts)} in ${
      formatDuration(performance.now() - started)
    }`;
    progress.clear();
    if (counts.failed > 0) {
      writeLine(Deno.stdout, `==== ${line}\n${output.trimEnd()}\n==== end of ${words}`);
      failures.push(...readFailures(output).map((failure) => `${part}, ${words}: ${failure}`));
    }
    ended++;
    const left = ended < jobs.length ? `, ${progress.eta(ended / jobs.length)}` : "";
    progress.line(`[${ended} of ${jobs.length}] ${line}${left}`);
  };
  await inParallel(jobs.filter(({ file }) => file === ALONE), runJob, 1);
  await inParallel(jobs.filter(({ file }) => file !== ALONE), runJob, atOnce);
  return { total, failures };
}

/**
 * Notes an outcome, by which `openCuda` chooses its defaults.
 *
 * @param ranAll Whether all files of the part `tests` ran.
 * @returns A line about it, where something is noted.
 */
export async function noteOutcome(
  build: TestedBuild,
  ranAll: boolean,
  counts: TestCounts,
): Promise<string[]> {
  const failed = counts.failed > 0;
  if (!failed && (!ranAll || counts.passed === 0)) return [];
  await noteTested(build, !failed);
  if (failed || build.arch < 90) return [];
  return [
    "noted: wgmma and dependent launches are the default for this device, driver and build; " +
    "TOKENFILTER_GPU_TESTED=none switches them off",
  ];
}

/** Runs the task. @returns The exit code. */
export async function main(args: readonly string[]): Promise<number> {
  const { only, files = "" } = parseOwnFlags(args, ["only", "files"], []);
  const wanted: { part: Part; jobs: Job[] }[] = [];
  for (const part of only === undefined ? PARTS : [expectChoice("only", only, PARTS)]) {
    const jobs = (await listJobs(part)).filter(({ file }) => file.includes(files));
    if (jobs.length > 0) wanted.push({ part, jobs });
  }
  if (wanted.length === 0) {
    throw new UsageError(`Cannot use --files ${files}: found no test file with it, such as ${ALONE}`);
  }
  const progress = new Progress(Deno.stderr), onProgress = (message: string) => progress.line(message);
  const driver = openDriver(), device = driver.device(0);
  const { manifest } = await buildCuda({
    archs: [buildArchOf(device.arch)],
    driver: driver.version,
    onProgress,
  });
  // It notes a failure, after which the processes of tests do not try.
  await ensureCublasLt(manifest.nvcc, { onProgress, pauseMs: 1 });
  // A driver runs libraries built for its own major version, later minor ones included.
  driver.expectVersion(1000 * Number.parseInt(manifest.nvcc));
  const { cuda, release } = await describeDriver(driver, device);
  writeLine(
    Deno.stdout,
    `${device.name}, sm_${device.arch}, driver ${release ?? "of unknown release"} for CUDA ${cuda}, ` +
      `nvcc ${manifest.nvcc}, commit ${manifest.git ?? "unknown"}`,
  );
  const isChecked = wanted.some(({ part }) => part !== "tests");
  const sanitizer = isChecked ? await ensureSanitizer(driver.version, onProgress) : {};
  const lines: string[] = [], failures: string[] = [], sum = { passed: 0, failed: 0, ignored: 0 };
  using interrupt = new Interrupt();
  const how = { atOnce: device.exclusive ? 1 : AT_ONCE, progress, signal: interrupt.signal };
  for (const { part, jobs } of wanted) {
    if (part !== "tests" && sanitizer.path === undefined) {
      lines.push(`not run: ${part} (${sanitizer.reason})`);
      continue;
    }
    const started = performance.now(), done = await runPart(part, jobs, sanitizer.path ?? "", how);
    if (interrupt.signal.aborted) return interrupt.code;
    for (const name of ["passed", "failed", "ignored"] as const) sum[name] += done.total[name];
    failures.push(...done.failures);
    lines.push(`${part}: ${describeCounts(done.total)} in ${formatDuration(performance.now() - started)}`);
  }
  for (const failure of failures) writeLine(Deno.stdout, `failed: ${failure}`);
  if (!Deno.env.get("TOKENFILTER_CUDA_LIBRARY")) { // else the tests ran another library
    const ranAll = files === "" && wanted.some(({ part }) => part === "tests");
    lines.push(...await noteOutcome(testedBuild(device, driver.version, manifest.sha256), ranAll, sum));
  }
  for (const line of [...lines, describeCounts(sum)]) writeLine(Deno.stdout, line);
  return sum.failed > 0 || sum.passed === 0 ? EXIT_FAILED : EXIT.ok;
}

if (import.meta.main) await runTask(main, USAGE);
