/**
 * `deno task test:gpu`: the tests of the CUDA library on the first GPU.
 * See `deno task test:gpu --help`.
 */
import { UsageError } from "../../../lib/errors.ts";
import { buildArchOf, noteTested, openDriver, type TestedBuild, testedBuild } from "../../../ffi/cuda/mod.ts";
import { buildCuda } from "../../../build.ts";
import { ensureCublasLt } from "../../../ffi/build/cublaslt.ts";
import { inParallel } from "../../../ffi/build/command.ts";
import { ptxVariables } from "../../../ffi/build/ptx_testing.ts";
import { onOff, text, under } from "../../commands/cli/flags/flag.ts";
import { expectChoice, textOf } from "../../commands/cli/flags/parse.ts";
import { Interrupt } from "../../commands/cli/run/interrupt.ts";
import { EXIT, runCommand, writeLine } from "../../commands/cli/task.ts";
import { type Asked, plainCommand } from "../../commands/run.ts";
import { describeDriver } from "./driver.ts";
import {
  ALONE,
  commandOf,
  ensureSanitizer,
  type Job,
  LIMITS,
  listJobs,
  type Outcome,
  type Part,
  runJob,
} from "./run.ts";

/** The exit code where a test failed. */
const EXIT_FAILED = 1;
/** Files at once: each computes its references on a core of the CPU, next to the library's own threads. */
const AT_ONCE = Math.max(1, Math.min(4, navigator.hardwareConcurrency >> 2));
const PARTS = Object.keys(LIMITS) as Part[];

/** Tests that passed, and runs that failed. */
interface Total {
  passed: number;
  readonly failed: string[];
}

/**
 * Notes an outcome, by which `openCuda` chooses its defaults.
 *
 * @param ranAll Whether all files of the part `tests` ran.
 * @returns A line about it, where something is noted.
 */
export async function noteOutcome(build: TestedBuild, ranAll: boolean, total: Total): Promise<string[]> {
  const failed = total.failed.length > 0;
  if (!failed && (!ranAll || total.passed === 0)) return [];
  await noteTested(build, !failed);
  if (failed || build.arch < 90) return [];
  return [
    "noted: wgmma and dependent launches are the default for this device, driver and build; " +
    "TOKENFILTER_GPU_TESTED=none switches them off",
  ];
}

function readOptions({ values }: Asked) {
  const only = textOf(values, "only"), files = textOf(values, "files") ?? "";
  const parts = only === undefined ? PARTS : [expectChoice("only", only, PARTS)];
  const jobs = parts.flatMap(listJobs).filter(({ file }) => file.includes(files));
  if (jobs.length === 0) {
    throw new UsageError(`Cannot use --files ${files}: found no test file with it, such as ${ALONE}`);
  }
  return { parts, files, jobs, ptx: values.has("ptx") };
}

/** Runs jobs, and tells of each that fails. @param atOnce most of them at a time */
async function runJobs(
  jobs: readonly Job[],
  run: (job: Job, signal: AbortSignal) => Promise<Outcome>,
  atOnce: number,
  { progress }: Asked,
  interrupt: Interrupt,
): Promise<Total> {
  const total: Total = { passed: 0, failed: [] }, { signal } = interrupt;
  let ended = 0;
  progress.start();
  const runOne = async (job: Job) => {
    if (signal.aborted) return;
    const name = `${job.part}, ${job.file}${job.withoutLt ? " without cuBLASLt" : ""}`;
    const { success, passed, output } = await run(job, signal);
    if (signal.aborted) return;
    total.passed += passed;
    if (!success) {
      total.failed.push(name);
      progress.clear();
      print(`==== ${name}\n${output}\n==== end of ${name}`);
    }
    const left = ++ended < jobs.length ? `, ${progress.eta(ended / jobs.length)}` : "";
    progress.line(`[${ended} of ${jobs.length}] ${name}: ${success ? `${passed} passed` : "FAILED"}${left}`);
  };
  await inParallel(jobs.filter(({ file }) => file === ALONE), runOne, 1);
  await inParallel(jobs.filter(({ file }) => file !== ALONE), runOne, atOnce);
  if (!signal.aborted) { for (const name of total.failed) print(`failed: ${name}`); }
  return total;
}

/** Prints the result. @returns The exit code. */
function report(total: Total, numJobs: number): number {
  print(`${total.passed} tests passed in ${numJobs} files, ${total.failed.length} files failed`);
  return total.failed.length > 0 || total.passed === 0 ? EXIT_FAILED : EXIT.ok;
}

const print = (line: string) => writeLine(Deno.stdout, line);

/** The tests of the fast tier on the interpreter: no card, no sanitizer, and nothing that is noted. */
async function workOnPtx(options: ReturnType<typeof readOptions>, asked: Asked): Promise<number> {
  const variables = await ptxVariables(undefined, (message) => asked.progress.line(message));
  // Without cuBLASLt all runs are the same.
  const jobs = options.jobs.filter(({ part, withoutLt }) => part === "tests" && !withoutLt);
  print(
    `an interpreter of the PTX of sm_${variables.TKF_PTX_ARCH}, instead of a GPU: no times, no machine code`,
  );
  using interrupt = new Interrupt();
  const run = (job: Job, signal: AbortSignal) =>
    runJob(commandOf(job, "", true), { withoutLt: true, signal }, variables);
  const total = await runJobs(jobs, run, navigator.hardwareConcurrency, asked, interrupt);
  return interrupt.signal.aborted ? interrupt.code : report(total, jobs.length);
}

async function work(options: ReturnType<typeof readOptions>, asked: Asked): Promise<number> {
  if (options.ptx) return await workOnPtx(options, asked);
  const { parts, files } = options,
    { progress } = asked,
    onProgress = (message: string) => progress.line(message);
  let { jobs } = options;
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
  print(
    `${device.name}, sm_${device.arch}, driver ${release ?? "of unknown release"} for CUDA ${cuda}, ` +
      `nvcc ${manifest.nvcc}, commit ${manifest.git ?? "unknown"}`,
  );
  const sanitizer = jobs.some(({ part }) => part !== "tests")
    ? await ensureSanitizer(driver.version, onProgress)
    : { path: "" };
  if (sanitizer.path === undefined) {
    print(`not run: memcheck and racecheck (${sanitizer.reason})`);
    jobs = jobs.filter(({ part }) => part === "tests");
  }
  using interrupt = new Interrupt();
  const run = (job: Job, signal: AbortSignal) =>
    runJob(commandOf(job, sanitizer.path ?? ""), { ...job, signal });
  const total = await runJobs(jobs, run, device.exclusive ? 1 : AT_ONCE, asked, interrupt);
  if (interrupt.signal.aborted) return interrupt.code;
  if (!Deno.env.get("TOKENFILTER_CUDA_LIBRARY")) { // else the tests ran another library
    const ranAll = files === "" && parts.includes("tests");
    const build = testedBuild(device, driver.version, manifest.sha256);
    for (const line of await noteOutcome(build, ranAll, total)) print(line);
  }
  return report(total, jobs.length);
}

export const command = plainCommand({
  name: "test:gpu",
  summary: "Runs every test of the kernels and of the driver's wrapper on the first GPU.",
  usage: "[flags]",
  about:
    `It builds the CUDA library for this GPU (CUDA_VISIBLE_DEVICES chooses which is first) and runs its tests. Then
the kernels' tests run again under compute-sanitizer's memcheck, and those with small cases under its racecheck. It comes from PATH, from CUDA_HOME (/usr/local/cuda) or from pip. A file is a process of its
own. The output of a failing one is shown in full, and its name at the end. Where all tests have passed, wgmma and
dependent launches become the default for this device, driver and build. Exit code 0: all passed; 1: a test failed or
a check found something; 2: no GPU, or no build.`,
  flags: under("What runs", {
    only: text(PARTS.join("|"), "only one part"),
    ptx: onOff("on an interpreter of what nvcc makes, without a GPU; TKF_PTX_ARCH=90a: with wgmma and TMA"),
    files: text("TEXT", "only files whose path contains it, such as filtered_attention or nll"),
  }),
  permissions: "-A",
  read: readOptions,
  work,
});

if (import.meta.main) await runCommand(command);
