/** Runs test files of the CUDA library in processes of their own, counts, and summarizes failures. */
import { fetchFolder } from "../../../ffi/build/wheel.ts";
import { run } from "../../../ffi/build/command.ts";
import { cacheDir } from "../../../lib/cache.ts";
import { type PinnedPackage, requirementOf } from "../../../lib/pip.ts";
import { formatDuration } from "../../commands/cli/output/progress.ts";
import { runGroup } from "../machine/process_group.ts";

const ROOT = new URL("../../../", import.meta.url);

/** Parts of the work, in their order, with the seconds that a file may take. */
export const LIMITS = { tests: 300, memcheck: 900, racecheck: 900 } as const;
export type Part = keyof typeof LIMITS;

/** The exit code for findings. compute-sanitizer has other ones for a device that cannot be used. */
const ERRORS_FOUND = "99";
/** Tests next to the kernels that a device runs, and those of all thread orders: calls of `kernels/testing/ways.ts`. */
const DEVICE_TEST = /\btest(OnDevice|InEvery|SameInEvery|Cases)/;
const ORDERS_TEST = /\btest(InEveryOrder|SameInEveryOrder|Cases)\(/;
/** Racecheck takes the tests that the emulator runs in all thread orders: their cases are small. */
const SMALL_TESTS = /thread order|order of threads/;
/** It checks the whole device's free memory and times it, so no other process of ours may run meanwhile. */
export const ALONE = "ffi/cuda/device_cuda_test.ts";
/** The products that cuBLASLt takes over where it is loaded. */
const PRODUCTS = "kernels/linear/linear_test.ts";

/** One run of a test file, which is relative to the repository. */
export interface Job {
  readonly file: string;
  /** Whether the library's own kernels multiply, not those of cuBLASLt. */
  readonly withoutLt: boolean;
}

/**
 * The runs of a part: each is a process of its own, as a broken device context affects no other file.
 *
 * Tests of matrix products run with cuBLASLt, if there is one, and without. Racecheck follows every access to shared
 * memory, so it runs small cases, and none of cuBLASLt, whose kernels are not ours.
 */
export async function listJobs(part: Part): Promise<Job[]> {
  const jobs: Job[] = [], folders = ["ffi/cuda", "experiments/tools/gpu"];
  if (part !== "tests") folders.length = 0;
  for (const { name, isDirectory } of Deno.readDirSync(new URL("kernels/", ROOT))) {
    if (isDirectory) folders.push(`kernels/${name}`);
  }
  for (const folder of folders) {
    for (const { name } of Deno.readDirSync(new URL(`${folder}/`, ROOT))) {
      const file = `${folder}/${name}`, text = async () => await Deno.readTextFile(new URL(file, ROOT));
      const wanted = folder.startsWith("kernels/")
        ? name.endsWith("_test.ts") && (part === "racecheck" ? ORDERS_TEST : DEVICE_TEST).test(await text())
        : name.endsWith("_cuda_test.ts") || name === "testing_test.ts";
      if (!wanted) continue;
      if (part !== "racecheck") jobs.push({ file, withoutLt: false });
      if (part === "racecheck" || file === PRODUCTS) jobs.push({ file, withoutLt: true });
    }
  }
  return jobs.sort((a, b) => a.file < b.file ? -1 : 1);
}

/** The command of a run. @param sanitizer Path of compute-sanitizer; not looked at for `tests`. */
export function commandOf(part: Part, file: string, sanitizer: string): [string, ...string[]] {
  const test: [string, ...string[]] = [Deno.execPath(), "test", "-A", "--no-check"];
  if (part === "tests") return [...test, file];
  const checks = ["--error-exitcode", ERRORS_FOUND, "--target-processes", "all"];
  // Tests provoke calls that ask for too much memory. They are refused, so only errors of kernels count.
  if (part === "memcheck") checks.push("--report-api-errors", "no");
  const chosen = part === "racecheck" ? ["--filter", String(SMALL_TESTS)] : [];
  return [sanitizer, "--tool", part, ...checks, ...test, ...chosen, file];
}

/** compute-sanitizer of the release of the pinned nvcc: wheels for x86-64 and arm64. */
const PINNED_SANITIZER: PinnedPackage = {
  name: "nvidia-cuda-sanitizer-api",
  version: "13.0.85",
  sha256: [
    "b1efff95f63b6fe40dc83801d598550542364393957775912a1abf396904331c",
    "d68dd19ca34f714634825e0a4053eef0b18c2c1e5dc3fe73a68a12b6529709e7",
  ],
};

/** A path of compute-sanitizer, or the reason why there is none. */
export interface FoundSanitizer {
  readonly path?: string;
  readonly reason?: string;
}

/**
 * compute-sanitizer from PATH or `CUDA_HOME` (/usr/local/cuda), else from pip (14 MB).
 *
 * @param driver CUDA version that the driver serves; pip has none for drivers of release 12.
 */
export async function ensureSanitizer(
  driver: number,
  onProgress: (message: string) => void,
  path = Deno.env.get("PATH") ?? "",
  home = Deno.env.get("CUDA_HOME") ?? "/usr/local/cuda",
): Promise<FoundSanitizer> {
  const runs = async (file: string) => (await run(file, ["--version"])).success;
  for (const folder of [...path.split(":"), `${home}/bin`, `${home}/compute-sanitizer`]) {
    if (await runs(`${folder}/compute-sanitizer`)) return { path: `${folder}/compute-sanitizer` };
  }
  const requirement = requirementOf(PINNED_SANITIZER),
    none = "found no compute-sanitizer on PATH or in CUDA_HOME";
  if (driver < 13000) return { reason: `${none}, and pip's is for drivers of CUDA 13` };
  const folder = `${cacheDir()}/${requirement.replace("==", "-")}-${Deno.build.arch}`;
  const fetched = `${folder}/nvidia/cu13/bin/compute-sanitizer`;
  if (await runs(fetched)) return { path: fetched };
  onProgress(`fetching ${requirement} with pip`);
  const trouble = await fetchFolder([PINNED_SANITIZER], folder, () => runs(fetched));
  if (trouble !== undefined) return { reason: `${none}, and pip has fetched none: ${trouble}` };
  return await runs(fetched) ? { path: fetched } : { reason: `${none}; "${fetched}" does not run` };
}

/** The outcome of runs. */
export interface TestCounts {
  passed: number;
  failed: number;
  ignored: number;
}

/** The line with the summary of `deno test`. */
const SUMMARY = /^(?:ok|FAILED) \| (\d+) passed(?: \(\d+ steps?\))? \| (\d+) failed(?: \| (\d+) ignored)?/gm;

/**
 * Runs a test command to its end, or to the limit (a kernel may wait for ever). A process that ends badly without a
 * failed test counts as one more failure: a crash, no end, an error outside of tests, or a finding of the checker.
 */
export async function runTests(
  command: readonly [string, ...string[]],
  options: Parameters<typeof runGroup>[1],
): Promise<{ readonly counts: TestCounts; readonly output: string }> {
  const env = { NO_COLOR: "1", ...options.env };
  const { success, output, timedOut } = await runGroup(command, { ...options, env });
  const [, passed = 0, failed = 0, ignored = 0] = [...output.matchAll(SUMMARY)].at(-1) ?? [];
  const counts = { passed: Number(passed), failed: Number(failed), ignored: Number(ignored) };
  if (!success && counts.failed === 0) counts.failed = 1;
  const end = timedOut ? `\nerror: found no end after ${formatDuration(1000 * options.limit)}\n` : "";
  return { counts, output: output + end };
}

/** Lines of a checker that contain nothing by themselves. */
const IDLE =
  /^========= *(?:COMPUTE-SANITIZER|(?:ERROR|RACECHECK) SUMMARY|$|Saved host backtrace|Host Frame)/;
/** Findings of one run that are shown. */
const MOST_FINDINGS = 8;

/** Failures of a run, one line each: tests with their errors, findings of a checker, the end of the process. */
export function readFailures(output: string): string[] {
  const lines = output.split("\n"), found: string[] = [];
  for (const [i, line] of lines.entries()) {
    const test = line.match(/^(.*) => \.\/\S+:\d+:\d+$/)?.[1],
      error = lines[i + 1]?.match(/^error: (.*)$/)?.[1];
    if (test !== undefined && error !== undefined) found.push(`${test}: ${error}`);
    else if (line.startsWith("=========") && !IDLE.test(line)) found.push(line.replace(/^=+ */, ""));
    else if (line.startsWith("error: found no end")) found.push(line.slice(7));
  }
  if (found.length === 0) {
    found.push(`it ended with: ${lines.findLast((line) => line.trim() !== "")?.trim()}`);
  }
  const more = found.length - MOST_FINDINGS;
  return more > 0 ? [...found.slice(0, MOST_FINDINGS), `and ${more} lines more`] : found;
}
