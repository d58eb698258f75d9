/** What `test:gpu` runs: the tests of the CUDA library, and some of them again under compute-sanitizer. */

const ROOT = new URL("../../", import.meta.url);

/** Parts of the work, in their order. */
export const PARTS = ["tests", "memcheck", "racecheck"] as const;
/** One of {@linkcode PARTS}. */
export type Part = typeof PARTS[number];

/** A device that cannot be used ends compute-sanitizer with other codes than this one. */
const ERRORS_FOUND = "99";

/** Racecheck takes the tests that the emulator runs in all thread orders: their cases are small. */
const SMALL_TESTS = /thread order|order of threads/;
/** The products that cuBLASLt takes over where it is loaded. */
const PRODUCTS = "kernels/linear/linear_cuda_test.ts";
const WITHOUT_CUBLASLT = { TOKENFILTER_CUBLASLT: "none" };

/** Test files, relative to the repository. */
export interface GpuTests {
  /** Beside the kernels. */
  readonly kernels: readonly string[];
  /** Of the code that drives them. */
  readonly driver: readonly string[];
}

/** One run of a test file. */
export interface Job {
  /** The file, relative to the repository. */
  readonly file: string;
  /** The file and what is special about the run, in words. */
  readonly words: string;
  /** Added to the environment. */
  readonly env: Readonly<Record<string, string>>;
}

/** Lists the test files that a GPU can run. @param root The repository. */
export async function listGpuTests(root: URL = ROOT): Promise<GpuTests> {
  const kernels: string[] = [], driver: string[] = [];
  for await (const op of Deno.readDir(new URL("kernels/", root))) {
    if (!op.isDirectory) continue;
    for await (const { name } of Deno.readDir(new URL(`kernels/${op.name}/`, root))) {
      if (name.endsWith("_cuda_test.ts")) kernels.push(`kernels/${op.name}/${name}`);
    }
  }
  for await (const { name } of Deno.readDir(new URL("ffi/cuda/", root))) {
    if (name.endsWith("_cuda_test.ts") || name === "testing_test.ts") driver.push(`ffi/cuda/${name}`);
  }
  return { kernels: kernels.sort(), driver: driver.sort() };
}

/**
 * The runs of a part. Each is a process of its own: what breaks one device context spoils no other file.
 *
 * Products are run with cuBLASLt, where there is one, and by the library's own kernels. Racecheck, which follows every
 * access to shared memory, takes small cases, and does without cuBLASLt, whose kernels are not ours to check.
 *
 * @param root The repository.
 */
export async function jobsOf(part: Part, { kernels, driver }: GpuTests, root: URL = ROOT): Promise<Job[]> {
  const plain = (file: string): Job => ({ file, words: file, env: {} });
  const without = (file: string): Job => ({ file, words: `${file} without cuBLASLt`, env: WITHOUT_CUBLASLT });
  if (part === "tests") {
    return [...driver, ...kernels].flatMap((file) =>
      file === PRODUCTS ? [plain(file), without(file)] : plain(file)
    );
  }
  if (part === "memcheck") {
    return kernels.flatMap((file) => file === PRODUCTS ? [plain(file), without(file)] : plain(file));
  }
  const jobs: Job[] = [];
  for (const file of kernels) {
    const text = await Deno.readTextFile(new URL(file, root));
    const names = text.matchAll(/Deno\.test\(\s*(["'`])(.*?)\1/gs);
    if ([...names].some(([, , name]) => SMALL_TESTS.test(name!))) {
      jobs.push(file === PRODUCTS ? without(file) : { ...plain(file), env: WITHOUT_CUBLASLT });
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
): string[] {
  const test = [Deno.execPath(), "test", "-A", "--no-check", ...stdFlags];
  if (part === "tests") return [...test, file];
  const checks = ["--error-exitcode", ERRORS_FOUND, "--target-processes", "all"];
  // Memory that is not there is refused by a call, which tests provoke: only what kernels do is an error.
  if (part === "memcheck") checks.push("--report-api-errors", "no");
  const chosen = part === "racecheck" ? ["--filter", String(SMALL_TESTS)] : [];
  return [sanitizer, "--tool", part, ...checks, ...test, ...chosen, file];
}

/** Path of compute-sanitizer: from PATH, or from `CUDA_HOME` (/usr/local/cuda); undefined where it is in neither. */
export async function findSanitizer(
  path = Deno.env.get("PATH") ?? "",
  home = Deno.env.get("CUDA_HOME") ?? "/usr/local/cuda",
): Promise<string | undefined> {
  const folders = [...path.split(":"), ...(home === "" ? [] : [`${home}/bin`, `${home}/compute-sanitizer`])];
  for (const folder of folders) {
    const file = `${folder}/compute-sanitizer`;
    try {
      const { isFile, mode } = await Deno.stat(file);
      if (isFile && ((mode ?? 0) & 0o111) !== 0) return file;
    } catch (error) {
      const missing = error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory ||
        error instanceof Deno.errors.PermissionDenied;
      if (!missing) throw error;
    }
  }
  return undefined;
}
