/** Test files of the CUDA library: those of a part, and the process that runs one. */
import { fileURLToPath } from "node:url";
import { globSync } from "node:fs";
import { run } from "../../../ffi/build/command.ts";
import type { PinnedPackage } from "../../../lib/pip.ts";
import { fetchProgram, type FoundProgram } from "../machine/program.ts";

const ROOT = fileURLToPath(new URL("../../../", import.meta.url));

/** Parts of the work, in their order, with the seconds that a file may take. */
export const LIMITS = { tests: 300, memcheck: 900, racecheck: 900 } as const;
/** Of a file on the interpreter of PTX. */
const PTX_LIMIT = 900;
export type Part = keyof typeof LIMITS;

/** Tests next to the kernels that a device runs: calls of `kernels/testing/ways.ts`. */
const DEVICE_TEST = /\btest(OnDevice|InEveryWay|SameInAnyOrder|Cases)\(/;
/** Racecheck takes the tests whose names end so, and files that have one. */
const SMALL_TESTS = /small cases$/, SMALL_TEST = /, small cases"|\btest(SameInAnyOrder|Cases)\(/;
/** It checks the whole device's free memory and times it, so no other process of ours may run meanwhile. */
export const ALONE = "ffi/cuda/device_cuda_test.ts";
/** The products that cuBLASLt takes over where it is loaded. */
const PRODUCTS = "kernels/linear/tests/linear_test.ts";

/** One run of a test file, which is relative to the repository. */
export interface Job {
  readonly part: Part;
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
export function listJobs(part: Part): Job[] {
  const list = (pattern: string) => globSync(pattern, { cwd: ROOT });
  const wanted = part === "racecheck" ? SMALL_TEST : DEVICE_TEST;
  const ofKernels = list("kernels/{*,*/tests}/*_test.ts").filter((file) =>
    wanted.test(Deno.readTextFileSync(ROOT + file))
  );
  const others = part === "tests" ? list("{ffi/cuda,experiments}/**/{*_cuda,testing}_test.ts") : [];
  return [...ofKernels, ...others].sort().flatMap((file) => {
    const both = part !== "racecheck" && file === PRODUCTS ? [false, true] : [part === "racecheck"];
    return both.map((withoutLt) => ({ part, file, withoutLt }));
  });
}

/**
 * The command of a run, which ends at its limit.
 *
 * @param sanitizer Path of compute-sanitizer; not looked at for `tests`.
 * @param interpreted Whether it is to run on the interpreter of PTX.
 */
export function commandOf(
  { part, file }: Job,
  sanitizer: string,
  interpreted = false,
): [string, ...string[]] {
  const test = [Deno.execPath(), "test", "-A", "--no-check"];
  const limit = interpreted ? PTX_LIMIT : LIMITS[part];
  const timed = ["timeout", "--kill-after=5", String(limit)] as const;
  if (part === "tests") return [...timed, ...test, file];
  const checks = ["--error-exitcode", "99", "--target-processes", "all"];
  // Tests provoke calls that ask for too much memory. They are refused, so only errors of kernels count.
  if (part === "memcheck") checks.push("--report-api-errors", "no");
  const chosen = part === "racecheck" ? ["--filter", String(SMALL_TESTS)] : [];
  return [...timed, sanitizer, "--tool", part, ...checks, ...test, ...chosen, file];
}

/** The outcome of a run. */
export interface Outcome {
  readonly success: boolean;
  /** Tests that passed. */
  readonly passed: number;
  readonly output: string;
}

/** Variables of a run on a GPU. */
const ON_GPU = { TOKENFILTER_TEST_DEVICE: "cuda", TOKENFILTER_TEST_SLOW: "1" };

/**
 * Runs a command of {@linkcode commandOf}. An exit code other than 0 fails: a test, a crash, no end, or a finding.
 *
 * @param variables Those of another device than a GPU.
 */
export async function runJob(
  [program, ...args]: readonly [string, ...string[]],
  { withoutLt, signal }: { readonly withoutLt: boolean; readonly signal?: AbortSignal },
  variables: Record<string, string> = ON_GPU,
): Promise<Outcome> {
  const env = { NO_COLOR: "1", ...variables };
  const { success, code, stdout, stderr } = await run(program, args, {
    cwd: ROOT,
    env: withoutLt ? { ...env, TOKENFILTER_CUBLASLT: "none" } : env,
    ...(signal && { signal }),
  });
  const end = success ? "" : `\nexit code ${code}${code === 124 ? ": found no end within the limit" : ""}`;
  const [, passed = 0] = [...stdout.matchAll(/^(?:ok|FAILED) \| (\d+) passed/gm)].at(-1) ?? [];
  return { success, passed: Number(passed), output: (stdout + stderr).trimEnd() + end };
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

/**
 * compute-sanitizer from PATH or `CUDA_HOME` (/usr/local/cuda), else from pip (14 MB).
 *
 * @param driver CUDA version that the driver serves; pip has none for drivers of release 12.
 */
export async function ensureSanitizer(
  driver: number,
  onProgress: (message: string) => void,
  home = Deno.env.get("CUDA_HOME") ?? "/usr/local/cuda",
): Promise<FoundProgram> {
  for (
    const path of ["", `${home}/bin/`, `${home}/compute-sanitizer/`].map((at) => `${at}compute-sanitizer`)
  ) {
    if ((await run(path, ["--version"])).success) return { path };
  }
  const none = "found no compute-sanitizer on PATH or in CUDA_HOME";
  if (driver < 13000) return { reason: `${none}, and pip's is for drivers of CUDA 13` };
  const found = await fetchProgram(PINNED_SANITIZER, "nvidia/cu13/bin/compute-sanitizer", onProgress);
  return found.path === undefined ? { reason: `${none}; ${found.reason}` } : found;
}
