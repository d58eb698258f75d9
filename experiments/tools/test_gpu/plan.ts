/** The plan of `test:gpu`: the tests of the CUDA library, and some of them again under compute-sanitizer. */
import { run } from "../../../ffi/build/command.ts";
import { fetchFolder } from "../../../ffi/build/wheel.ts";
import { cacheDir } from "../../../lib/cache.ts";
import { type PinnedPackage, requirementOf } from "../../../lib/pip.ts";

const ROOT = new URL("../../../", import.meta.url);

/** Parts of the work, in their order. */
export const PARTS = ["tests", "memcheck", "racecheck"] as const;
/** One of {@linkcode PARTS}. */
export type Part = typeof PARTS[number];

/** The exit code for findings. compute-sanitizer has other ones for a device that cannot be used. */
const ERRORS_FOUND = "99";

/** Tests next to the kernels that a device runs, and those of all thread orders: calls of `kernels/testing/ways.ts`. */
const DEVICE_TEST = /\btest(OnDevice|InEvery|SameInEvery|Cases)/;
const ORDERS_TEST = /\btest(InEveryOrder|SameInEveryOrder|Cases)\(/;
/** Racecheck takes the tests that the emulator runs in all thread orders: their cases are small. */
const SMALL_TESTS = /thread order|order of threads/;
/** It checks the whole device's free memory and times it, so no other process of ours may run meanwhile. */
const ALONE = "ffi/cuda/device_cuda_test.ts";
/** The products that cuBLASLt takes over where it is loaded. */
const PRODUCTS = "kernels/linear/linear_test.ts";

/** Test files, relative to the repository. */
export interface GpuTests {
  /** Next to the kernels. */
  readonly kernels: readonly string[];
  /** Tests of the code that launches the kernels, of long calls, and of tasks. */
  readonly driver: readonly string[];
}

/** One run of a test file. */
export interface Job {
  /** The file, relative to the repository. */
  readonly file: string;
  /** The file and the special conditions of the run, in words. */
  readonly words: string;
  /** Whether nothing else may run meanwhile. */
  readonly alone: boolean;
  /** Added to the environment. */
  readonly env: Readonly<Record<string, string>>;
}

/** Lists the test files that a GPU can run. @param root The repository. */
export async function listGpuTests(root: URL = ROOT): Promise<GpuTests> {
  const kernels: string[] = [], driver: string[] = [];
  for await (const op of Deno.readDir(new URL("kernels/", root))) {
    if (!op.isDirectory) continue;
    for await (const { name } of Deno.readDir(new URL(`kernels/${op.name}/`, root))) {
      const path = `kernels/${op.name}/${name}`;
      if (name.endsWith("_test.ts") && DEVICE_TEST.test(await Deno.readTextFile(new URL(path, root)))) {
        kernels.push(path);
      }
    }
  }
  for (const folder of ["ffi/cuda", "experiments/tools/test_gpu"]) {
    for await (const { name } of Deno.readDir(new URL(`${folder}/`, root))) {
      if (name.endsWith("_cuda_test.ts") || name === "testing_test.ts") driver.push(`${folder}/${name}`);
    }
  }
  return { kernels: kernels.sort(), driver: driver.sort() };
}

/**
 * The runs of a part. Each is a process of its own: a broken device context affects no other file.
 *
 * Tests of matrix multiplications run with cuBLASLt, if there is one, and with the library's own kernels. Racecheck
 * follows every access to shared memory, so it runs small cases, and none of cuBLASLt, whose kernels are not ours.
 *
 * @param root The repository.
 */
export async function jobsOf(part: Part, { kernels, driver }: GpuTests, root: URL = ROOT): Promise<Job[]> {
  const jobs: Job[] = [];
  for (const file of part === "tests" ? [...driver, ...kernels] : kernels) {
    const isSmall = part === "racecheck";
    if (isSmall && !ORDERS_TEST.test(await Deno.readTextFile(new URL(file, root)))) continue;
    const alone = file === ALONE;
    if (!isSmall) jobs.push({ file, words: file, alone, env: {} });
    const words = file === PRODUCTS ? `${file} without cuBLASLt` : file;
    if (isSmall || file === PRODUCTS) {
      jobs.push({ file, words, alone, env: { TOKENFILTER_CUBLASLT: "none" } });
    }
  }
  return jobs;
}

/**
 * The command of a run.
 *
 * @param sanitizer Path of compute-sanitizer; not looked at for `tests`.
 * @param stdFlags As `.std/flags.ts` prints them.
 */
export function commandOf(
  part: Part,
  file: string,
  stdFlags: readonly string[],
  sanitizer: string,
): [string, ...string[]] {
  const test: [string, ...string[]] = [Deno.execPath(), "test", "-A", "--no-check", ...stdFlags];
  if (part === "tests") return [...test, file];
  const checks = ["--error-exitcode", ERRORS_FOUND, "--target-processes", "all"];
  // Tests provoke calls that ask for too much memory. They are refused, so only errors of kernels count.
  if (part === "memcheck") checks.push("--report-api-errors", "no");
  const chosen = part === "racecheck" ? ["--filter", String(SMALL_TESTS)] : [];
  return [sanitizer, "--tool", part, ...checks, ...test, ...chosen, file];
}

/** Path of compute-sanitizer: from PATH, or from `CUDA_HOME` (/usr/local/cuda); undefined where it is in neither. */
export function findSanitizer(
  path = Deno.env.get("PATH") ?? "",
  home = Deno.env.get("CUDA_HOME") ?? "/usr/local/cuda",
): string | undefined {
  const folders = [...path.split(":"), ...(home === "" ? [] : [`${home}/bin`, `${home}/compute-sanitizer`])];
  return folders.map((folder) => `${folder}/compute-sanitizer`).find((file) => {
    try {
      const { isFile, mode } = Deno.statSync(file);
      return isFile && ((mode ?? 0) & 0o111) !== 0;
    } catch {
      return false;
    }
  });
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
 * compute-sanitizer as {@linkcode findSanitizer} finds it, else from pip (14 MB).
 *
 * @param driver CUDA version that the driver serves; pip has none for drivers of release 12.
 */
export async function ensureSanitizer(
  driver: number,
  onProgress: (message: string) => void,
): Promise<FoundSanitizer> {
  const found = findSanitizer(), none = "found no compute-sanitizer on PATH or in CUDA_HOME";
  if (found !== undefined) return { path: found };
  const requirement = requirementOf(PINNED_SANITIZER);
  if (driver < 13000) return { reason: `${none}, and pip's is for drivers of CUDA 13` };
  const folder = `${cacheDir()}/${requirement.replace("==", "-")}-${Deno.build.arch}`;
  const path = `${folder}/nvidia/cu13/bin/compute-sanitizer`;
  const runs = async () => (await run(path, ["--version"])).success;
  if (await runs()) return { path };
  onProgress(`fetching ${requirement} with pip`);
  const trouble = await fetchFolder([PINNED_SANITIZER], folder, runs);
  if (trouble !== undefined) return { reason: `${none}, and pip has fetched none: ${trouble}` };
  return await runs() ? { path } : { reason: `${none}; "${path}" does not run` };
}
