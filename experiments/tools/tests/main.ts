/**
 * `deno task test`: builds the library that tests load, in the fast tier for this machine's level alone. In the fast
 * tier, it runs the tests, and the examples of entry points and pages. In the slow tier, and for named folders and files, it
 * runs every example in the documentation too. Deno starts a worker per given file, so files without tests and examples are
 * left out.
 *
 * Tests of the CUDA kernels run where `TOKENFILTER_TEST_DEVICE` is `cuda` or `ptx`.
 *
 * ```sh
 * deno task test                # all
 * deno task test kernels lib    # those in these folders, or files
 * deno task test --filter rope  # flags of deno test
 * ```
 */
import { RUNS_SLOW } from "../../../lib/testing.ts";
import { main as build } from "../build/main.ts";

const ROOT = new URL("../../../", import.meta.url);
/** Flags of every run, without those that make `@std` resolve. */
export const TEST_FLAGS: readonly string[] = [
  ...["-A", "--doc", "--no-check", "--parallel", "--preload=experiments/tools/tests/strict_assert.ts"],
];
/** A block of code that `--doc` runs. */
const EXAMPLE = /^[ *]*```(?:[jt]sx?|javascript|typescript)\b(?!.*\bignore\b)/m;
/** Folders of the slowest files: they start first, so that none of them is left for the end. */
const SLOW = ["kernels/", "ffi/", "experiments/"];

/** Whether a file has tests or examples. */
async function isTested(url: URL): Promise<boolean> {
  if (/_test\.ts$/.test(url.pathname)) return true;
  return /\.(?:ts|js|md)$/.test(url.pathname) && EXAMPLE.test(await Deno.readTextFile(url));
}

/** Files with tests or examples in a folder of the project ("" = all), or those of one elsewhere. */
export async function findTested(folder: string, root = ROOT): Promise<string[]> {
  const { exclude }: { exclude: string[] } = JSON.parse(await Deno.readTextFile(new URL("deno.json", ROOT)));
  const skipped = new Set([".git", "node_modules", ...exclude]), found: string[] = [];
  const look = async (at: string) => {
    for await (const { name, isDirectory, isFile } of Deno.readDir(new URL(at, root))) {
      const path = at === "" ? name : `${at}/${name}`;
      if (isDirectory && !skipped.has(at === "" || name === "node_modules" ? name : path)) await look(path);
      else if (isFile && await isTested(new URL(path, root))) found.push(path);
    }
  };
  await look(folder);
  const rank = (path: string) => (SLOW.findIndex((slow) => path.startsWith(slow)) + 4) % 4;
  return found.sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1));
}

/** Whether the fast tier runs a file: tests, and examples of only entry points and pages. */
export function isInFastTier(path: string): boolean {
  return /_test\.ts$|\.md$|^lib\/entries\/|^[^/]*$|(^|\/)mod\.ts$/.test(path);
}

if (import.meta.main) {
  const device = Deno.env.get("TOKENFILTER_TEST_DEVICE") || "cpu";
  if (device === "cpu") {
    console.error(
      "CUDA kernels are not tested: TOKENFILTER_TEST_DEVICE=ptx tests them, with nvcc (fetched with pip)",
    );
  }
  const built = await build(RUNS_SLOW && device !== "cuda" && device !== "ptx" ? ["--all"] : []);
  if (built !== 0) Deno.exit(built);
  const flags: string[] = [], files: string[] = [];
  for (const arg of Deno.args) {
    const path = arg.replace(/^\.\/|\/$/g, "");
    const stat = arg.startsWith("-")
      ? undefined
      : await Deno.stat(new URL(path, ROOT)).catch(() => undefined);
    if (stat === undefined) flags.push(arg);
    else files.push(...stat.isDirectory ? await findTested(path) : [path]);
  }
  if (files.length === 0) {
    files.push(...(await findTested("")).filter((path) => RUNS_SLOW || isInFastTier(path)));
  }
  const args = ["test", ...TEST_FLAGS, ...flags, ...files];
  // One file more than there are cores: some wait for a browser, a time-out or the end of a process.
  const env = {
    DENO_JOBS: Deno.env.get("DENO_JOBS") ?? String(navigator.hardwareConcurrency + 1),
    TOKENFILTER_TEST_DEVICE: device,
    ...(device === "ptx" && await (await import("../../../ffi/build/ptx_testing.ts")).ptxVariables()),
  };
  Deno.exit((await new Deno.Command(Deno.execPath(), { args, cwd: ROOT, env }).spawn().status).code);
}
