/** What `test:gpu` runs: the tests of the CUDA library, and some of them again under compute-sanitizer. */

const ROOT = new URL("../../", import.meta.url);

/** Parts of the work, in their order. */
export const PARTS = ["tests", "memcheck", "racecheck"] as const;
/** One of {@linkcode PARTS}. */
export type Part = typeof PARTS[number];

/** A device that cannot be used ends compute-sanitizer with other codes than this one. */
const ERRORS_FOUND = "99";

/**
 * Test files, relative to the repository: those beside the kernels, and those of the code that drives them.
 *
 * @param root The repository.
 */
export async function listGpuTests(root: URL = ROOT): Promise<{ kernels: string[]; driver: string[] }> {
  const kernels: string[] = [], driver: string[] = [];
  for await (const op of Deno.readDir(new URL("kernels/", root))) {
    if (!op.isDirectory) continue;
    for await (const { name } of Deno.readDir(new URL(`kernels/${op.name}/`, root))) {
      if (name.endsWith("_cuda_test.ts")) kernels.push(`kernels/${op.name}/${name}`);
    }
  }
  for await (const { name } of Deno.readDir(new URL("ffi/cuda/", root))) {
    if (name.endsWith("_test.ts")) driver.push(`ffi/cuda/${name}`);
  }
  return { kernels: kernels.sort(), driver: driver.sort() };
}

/**
 * The command of a part.
 *
 * Racecheck follows every access to shared memory: it takes the tests that the emulator runs in all thread orders,
 * whose cases are small.
 *
 * @param sanitizer Path of compute-sanitizer; not looked at for `tests`.
 * @param stdFlags As `.std/flags.ts` prints them.
 */
export function commandOf(
  part: Part,
  { kernels, driver }: { readonly kernels: readonly string[]; readonly driver: readonly string[] },
  stdFlags: readonly string[],
  sanitizer: string,
): string[] {
  const test = [Deno.execPath(), "test", "-A", "--no-check", ...stdFlags];
  if (part === "tests") return [...test, ...kernels, ...driver];
  const checks = ["--error-exitcode", ERRORS_FOUND, "--target-processes", "all"];
  // Memory that is not there is refused by a call, which tests provoke: only what kernels do is an error.
  if (part === "memcheck") checks.push("--report-api-errors", "no");
  const chosen = part === "racecheck" ? ["--filter", "/thread order|order of threads/"] : [];
  return [sanitizer, "--tool", part, ...checks, ...test, ...chosen, ...kernels];
}

/** Path of compute-sanitizer: from PATH, or from `CUDA_HOME`; undefined where it is in neither. */
export async function findSanitizer(
  path = Deno.env.get("PATH") ?? "",
  home = Deno.env.get("CUDA_HOME") ?? "",
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
