/**
 * `deno task test:gpu`: the tests of the CUDA library on the first GPU, with the cases that the emulator runs.
 * See `deno task test:gpu --help`.
 */
import { UsageError } from "../../lib/errors.ts";
import { buildArchOf, noteTested, openDriver, type TestedBuild, testedBuild } from "../../ffi/cuda/mod.ts";
import { buildCuda } from "../../build.ts";
import { ensureCublasLt } from "../../ffi/build/cublaslt.ts";
import { inParallel } from "../../ffi/build/command.ts";
import { Interrupt } from "../commands/cli/run/interrupt.ts";
import { expectChoice, parseOwnFlags, readInteger } from "../commands/cli/flags/parse.ts";
import { formatDuration, Progress } from "../commands/cli/output/progress.ts";
import { readStdFlags } from "../commands/cli/machine/deno.ts";
import { EXIT, runTask, writeLine } from "../commands/cli/task.ts";
import { describeDriver } from "./bench_gpu/machine.ts";
import {
  commandOf,
  ensureSanitizer,
  type FoundSanitizer,
  type Job,
  jobsOf,
  listGpuTests,
  type Part,
  PARTS,
} from "./test_gpu/plan.ts";
import { addCounts, NO_TESTS, readFailures, runTests, type TestCounts } from "./test_gpu/run.ts";

/** The exit code where a test failed. */
const EXIT_FAILED = 1;
/** Time limits of a test file in seconds: without and with compute-sanitizer. */
const LIMITS: { readonly [P in Part]: number } = { tests: 300, memcheck: 900, racecheck: 900 };
/** Files at once: each computes its references on a core of the CPU, next to the library's own threads. */
const AT_ONCE = Math.max(1, Math.min(4, navigator.hardwareConcurrency >> 2));
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
  --limit SECONDS
      time limit of a file, which then counts as failed (${LIMITS.tests}; ${LIMITS.memcheck} under compute-sanitizer)
  --jobs N
      files at once (a quarter of the cores, at most 4; 1 where the device serves one process at a time)
  --help
      print this`;

function readOptions(args: readonly string[]) {
  const { only, files = "", limit, jobs } = parseOwnFlags(args, ["only", "files", "limit", "jobs"], []);
  return {
    only: only === undefined ? undefined : expectChoice("only", only, PARTS),
    files,
    limit: limit === undefined ? undefined : readInteger("limit", limit, 1),
    jobs: jobs === undefined ? undefined : readInteger("jobs", jobs, 1),
  };
}

/** Counts in words. */
export function describeCounts({ passed, failed, ignored }: TestCounts): string {
  return `${passed} passed, ${failed} failed${ignored > 0 ? `, ${ignored} ignored` : ""}`;
}

/** Runs jobs, some at once; the output of a failed one is shown when it has ended. */
async function runPart(
  part: Part,
  jobs: readonly Job[],
  { limit, atOnce }: { readonly limit: number; readonly atOnce: number },
  sanitizer: string,
  progress: Progress,
  signal: AbortSignal,
): Promise<{ total: TestCounts; failures: string[] }> {
  const stdFlags = await readStdFlags(), failures: string[] = [];
  let total = NO_TESTS, ended = 0;
  progress.start();
  const runJob = async ({ file, words, env }: Job) => {
    if (signal.aborted) return;
    const started = performance.now();
    const { counts, output } = await runTests(commandOf(part, file, stdFlags, sanitizer), {
      cwd: new URL("../../", import.meta.url),
      env: { TOKENFILTER_TEST_DEVICE: "cuda", TOKENFILTER_TEST_SLOW: "1", ...env },
      limit,
      signal,
    });
    if (signal.aborted) return;
    total = addCounts(total, counts);
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
  await inParallel(jobs.filter(({ alone }) => alone), runJob, 1);
  await inParallel(jobs.filter(({ alone }) => !alone), runJob, atOnce);
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
  const options = readOptions(args);
  const files = await listGpuTests();
  const matches = ({ file }: Job) => file.includes(options.files);
  const wanted: { part: Part; jobs: Job[] }[] = [];
  for (const part of PARTS) {
    if (options.only !== undefined && options.only !== part) continue;
    const jobs = (await jobsOf(part, files)).filter(matches);
    if (jobs.length > 0) wanted.push({ part, jobs });
  }
  if (wanted.length === 0) {
    throw new UsageError(
      `Cannot use --files ${options.files}: found no test file with it, such as ${files.kernels[0]}`,
    );
  }
  const progress = new Progress(Deno.stderr);
  const driver = openDriver(), device = driver.device(0);
  const { manifest } = await buildCuda({
    archs: [buildArchOf(device.arch)],
    driver: driver.version,
    onProgress: (message) => progress.line(message),
  });
  await ensureCublasLt(manifest.nvcc, {
    onProgress: (message) => progress.line(message),
    pauseMs: 1, // notes a failure, after which the processes of tests do not try
  });
  // A driver runs libraries built for its own major version, later minor ones included.
  driver.expectVersion(1000 * Number.parseInt(manifest.nvcc));
  const { cuda, release } = await describeDriver(driver, device);
  writeLine(
    Deno.stdout,
    `${device.name}, sm_${device.arch}, driver ${release ?? "of unknown release"} for CUDA ${cuda}, ` +
      `nvcc ${manifest.nvcc}, commit ${manifest.git ?? "unknown"}`,
  );
  const atOnce = device.exclusive ? 1 : options.jobs ?? AT_ONCE;
  const isChecked = wanted.some(({ part }) => part !== "tests");
  const sanitizer: FoundSanitizer = isChecked
    ? await ensureSanitizer(driver.version, (line) => progress.line(line))
    : {};
  const parts = wanted.filter(({ part }) => part === "tests" || sanitizer.path !== undefined);
  const lines: string[] = [], failures: string[] = [];
  let sum = NO_TESTS;
  using interrupt = new Interrupt();
  for (const { part, jobs } of parts) {
    const started = performance.now();
    const how = { limit: options.limit ?? LIMITS[part], atOnce };
    const checker = sanitizer.path ?? "";
    const done = await runPart(part, jobs, how, checker, progress, interrupt.signal);
    if (interrupt.signal.aborted) return interrupt.code;
    sum = addCounts(sum, done.total);
    failures.push(...done.failures);
    lines.push(`${part}: ${describeCounts(done.total)} in ${formatDuration(performance.now() - started)}`);
  }
  for (const failure of failures) writeLine(Deno.stdout, `failed: ${failure}`);
  for (const line of lines) writeLine(Deno.stdout, line);
  const left = wanted.filter((each) => !parts.includes(each)).map(({ part }) => part);
  if (sanitizer.reason !== undefined) {
    writeLine(Deno.stdout, `not run: ${left.join(", ")} (${sanitizer.reason})`);
  }
  if (!Deno.env.get("TOKENFILTER_CUDA_LIBRARY")) { // else the tests ran another library
    const ranAll = options.files === "" && parts.some(({ part }) => part === "tests");
    const build = testedBuild(device, driver.version, manifest.sha256);
    for (const line of await noteOutcome(build, ranAll, sum)) writeLine(Deno.stdout, line);
  }
  writeLine(Deno.stdout, describeCounts(sum));
  return sum.failed > 0 || sum.passed === 0 ? EXIT_FAILED : EXIT.ok;
}

if (import.meta.main) await runTask(main, USAGE);
