/** Compilers and other programs that the build calls. */
import { ifThere } from "../../lib/cache.ts";
import { NativeLibraryError, NoLibraryError } from "../../lib/errors.ts";
import { KERNELS_URL } from "../library/sources.ts";

/** @internal Options of every build. */
export interface BuildOptions {
  /** Build even where the cache holds the result. */
  readonly force?: boolean | undefined;
  /** Called with short lines about the progress, only if there is something to do. */
  readonly onProgress?: ((message: string) => void) | undefined;
}

export interface Finished {
  readonly success: boolean;
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export type RunOptions = Pick<Deno.CommandOptions, "cwd" | "env" | "clearEnv" | "signal">;

/** Runs a command; a missing program, or a file that is none, is a failure like any other. */
export async function run(
  command: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<Finished> {
  try {
    const child = new Deno.Command(command, { args: [...args], ...options, stdin: "null" });
    const { success, code, stdout, stderr } = await child.output();
    const decoder = new TextDecoder();
    return { success, code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound || error instanceof Deno.errors.PermissionDenied)) {
      throw error;
    }
    return { success: false, code: 127, stdout: "", stderr: `${command}: found no program of this name` };
  }
}

export interface Compiler {
  readonly command: string;
  readonly args: readonly string[];
  /** First line of `--version`. */
  readonly version: string;
}

/**
 * `CXX` where it is set, else the first of g++ and clang++ that runs.
 *
 * @throws {NativeLibraryError} If there is none.
 */
export async function findCompiler(): Promise<Compiler> {
  const own = Deno.env.get("CXX")?.trim();
  const candidates = own ? [own] : ["g++", "clang++"];
  for (const candidate of candidates) {
    const [command, ...args] = candidate.split(/\s+/);
    const { success, stdout } = await run(command!, [...args, "--version"]);
    if (success) return { command: command!, args, version: stdout.split("\n")[0]!.trim() };
  }
  const tried = own ? `CXX="${own}", which does not run` : "neither g++ nor clang++";
  throw new (own ? NativeLibraryError : NoLibraryError)(
    `Cannot build the native library: found ${tried}, expected a C++17 compiler; install g++ or clang++ ` +
      "(for example: apt-get install g++), or set CXX to one",
  );
}

/**
 * Runs a compiler or linker.
 *
 * @param what The file that it works on, for messages.
 * @returns Its output.
 * @throws {NativeLibraryError} If it fails; the message contains its output.
 */
export async function runCompiler(
  what: string,
  command: string,
  args: readonly string[],
  options: RunOptions,
): Promise<string> {
  const { success, stdout, stderr } = await run(command, args, options);
  if (success) return stdout + stderr;
  throw new NativeLibraryError(
    `Cannot build the native library: the compiler failed on ${what}\n${stdout}${stderr}`,
  );
}

/**
 * The file that a compiler or linker has made.
 *
 * @throws {NativeLibraryError} If it has made none.
 */
export async function readMade(
  what: string,
  command: string,
  path: string,
): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = await ifThere(Deno.readFile(path));
  if (bytes !== undefined) return bytes;
  throw new NativeLibraryError(
    `Cannot build the native library: found that "${command}" made nothing of ${what} and told of no error, expected a ` +
      "C++17 compiler; set CXX to one",
  );
}

/** A linker's script, written as `exports`: the functions of the C ABI are seen from outside and nothing else is. */
const EXPORTS = "{ global: tkf_*; local: *; };\n";

/** Links the objects of a folder to a library. @returns Its bytes, and the linker's output. */
export async function link(
  what: string,
  command: string,
  args: readonly string[],
  work: string,
): Promise<{ bytes: Uint8Array<ArrayBuffer>; output: string }> {
  await Deno.writeTextFile(`${work}/exports`, EXPORTS);
  const output = await runCompiler(what, command, [...args, "-o", "library"], { cwd: work });
  return { bytes: await readMade(what, command, `${work}/library`), output };
}

/**
 * Commit of the sources: `TOKENFILTER_COMMIT` where it is set, as for a copy of the tree; else that of the checkout that
 * holds them, if there is one, with "-dirty" where they were changed.
 */
export async function gitHash(): Promise<string | null> {
  const given = Deno.env.get("TOKENFILTER_COMMIT");
  if (given) return given;
  if (KERNELS_URL.protocol !== "file:") return null;
  const head = await run("git", ["rev-parse", "HEAD"], { cwd: KERNELS_URL });
  if (!head.success) return null;
  const changed = await run("git", ["status", "--porcelain", "--", "."], { cwd: KERNELS_URL });
  return head.stdout.trim() + (changed.stdout === "" ? "" : "-dirty");
}

/** Works through jobs, at most `most` at once (default: the cores); the first failure is thrown when all have ended. */
export async function inParallel<Job>(
  jobs: readonly Job[],
  work: (job: Job) => Promise<void>,
  most = navigator.hardwareConcurrency,
): Promise<void> {
  const queue = [...jobs];
  let failed = false;
  const worker = async () => {
    for (let job = queue.shift(); job !== undefined && !failed; job = queue.shift()) {
      try {
        await work(job);
      } catch (error) {
        failed = true;
        throw error;
      }
    }
  };
  const workers = await Promise.allSettled(Array.from({ length: most }, worker));
  for (const result of workers) if (result.status === "rejected") throw result.reason;
}
