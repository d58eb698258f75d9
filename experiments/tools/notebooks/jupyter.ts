/** Jupyter in a folder of its own in the project's cache. The user's Python and kernels stay untouched. */
import { cacheDir, prepareCacheDir } from "../../../lib/cache.ts";
import { UsageError } from "../../../lib/errors.ts";
import { run as runProgram } from "../../../ffi/build/command.ts";
import { reasonOf } from "../../../lib/pip.ts";
import { sha256 } from "../../../lib/sha256.ts";
import { isFolder } from "../../commands/cli/files.ts";

/** A Python that has Jupyter. */
export interface Jupyter {
  /** Path of the program. */
  readonly python: string;
  /** Folder of the virtual environment that it belongs to. */
  readonly folder: string;
}

/** Options of {@linkcode ensureJupyter}. */
export interface JupyterOptions {
  /** Called with short lines about the progress, only if there is something to do. */
  readonly onProgress?: (message: string) => void;
  /** Replaces the function that runs programs. */
  readonly run?: typeof runProgram;
  /** Replaces the project's cache folder. */
  readonly cache?: string;
}

const FIX = "install Python 3.11 or newer with pip (for example: apt-get install python3-venv python3-pip)";

/**
 * Finds the environment of these requirements and of this machine's `python3` in the cache, or makes it.
 *
 * @throws {UsageError} If python3 or pip is missing, or a package cannot be had. The message contains the fix.
 */
export async function ensureJupyter(options: JupyterOptions = {}): Promise<Jupyter> {
  const { onProgress = () => {}, run = runProgram, cache = cacheDir() } = options;
  const version = await run("python3", ["-c", "import sys; print(sys.version, sys.base_prefix)"]);
  if (!version.success) {
    throw new UsageError(`Cannot set up Jupyter: found no python3, expected one: ${FIX}`);
  }
  const file = decodeURIComponent(new URL("requirements.txt", import.meta.url).pathname);
  const text = await Deno.readTextFile(file);
  const key = (await sha256(`${version.stdout}\n${text}`)).slice(0, 16);
  const folder = `${cache}/jupyter-${key}`;
  const jupyter = { python: `${folder}/bin/python`, folder };
  if (isFolder(folder)) return jupyter;

  if (options.cache === undefined) await prepareCacheDir();
  const part = `${folder}.${Deno.pid}.partial`;
  try {
    onProgress("getting Jupyter with pip, once");
    const [pip, ...args] = await makeEnvironment(part, run);
    const flags = "--quiet --disable-pip-version-check --no-input --only-binary :all: --require-hashes";
    const installed = await run(pip, [...args, "install", ...flags.split(" "), "-r", file]);
    if (!installed.success) {
      throw new UsageError(
        `Cannot set up Jupyter: pip failed with "${reasonOf(installed.stderr) ?? "nothing"}"; ${FIX}`,
      );
    }
    await Deno.rename(part, folder); // its programs are run as modules, which a new path does not harm
  } catch (error) {
    await Deno.remove(part, { recursive: true }).catch(() => {});
    if (!isFolder(folder)) throw error; // another process was faster
  }
  return jupyter;
}

/** Makes a virtual environment; returns the command of a pip that installs into it. */
async function makeEnvironment(folder: string, run: typeof runProgram): Promise<[string, ...string[]]> {
  const whole = await run("python3", ["-m", "venv", folder]);
  if (whole.success) return [`${folder}/bin/python`, "-m", "pip"];
  // Debian's python3 has no pip to copy unless python3-venv is there; its own pip can serve.
  const bare = await run("python3", ["-m", "venv", "--clear", "--without-pip", folder]);
  const pip = await run("python3", ["-m", "pip", "--version"]);
  if (bare.success && pip.success) return ["python3", "-m", "pip", "--python", `${folder}/bin/python`];
  const reason = reasonOf((bare.success ? pip : bare).stderr) ?? "nothing";
  throw new UsageError(`Cannot set up Jupyter: python3 failed with "${reason}"; ${FIX}`);
}
