/** Jupyter in a folder of its own in the project's cache. The user's Python packages and kernels stay untouched. */
import { fileURLToPath } from "node:url";
import { run } from "../../../ffi/build/command.ts";
import { fetchFolder } from "../../../ffi/build/wheel.ts";
import { cacheDir } from "../../../lib/cache.ts";
import { UsageError } from "../../../lib/errors.ts";
import { sha256 } from "../../../lib/sha256.ts";
import { isFolder } from "../../commands/cli/files.ts";

const REQUIREMENTS = fileURLToPath(new URL("requirements.txt", import.meta.url));

/** A Python, and the folder of its packages. */
export interface Jupyter {
  readonly python: string;
  readonly folder: string;
}

/** Variables with which Python takes its packages from a folder; the user's own packages and settings stay out. */
export const variablesOf = (folder: string) => ({
  PYTHONPATH: folder,
  PYTHONNOUSERSITE: "1",
  JUPYTER_NO_CONFIG: "1",
});

/**
 * The packages of these requirements for this machine's `python3`, which pip fetches once.
 *
 * @throws {UsageError} If python3 or pip is missing, or a package cannot be had. The message contains the fix.
 */
export async function ensureJupyter(onProgress: (message: string) => void = () => {}): Promise<Jupyter> {
  const key = (await sha256(await Deno.readTextFile(REQUIREMENTS))).slice(0, 16);
  const folder = `${cacheDir()}/jupyter-${key}`, env = variablesOf(folder);
  const loads = async () =>
    isFolder(folder) && (await run("python3", ["-c", "import nbclient, zmq"], { env })).success;
  if (await loads()) return { python: "python3", folder };
  onProgress("getting Jupyter with pip, once");
  const trouble = await fetchFolder(REQUIREMENTS, folder, loads);
  if (trouble === undefined && await loads()) return { python: "python3", folder };
  throw new UsageError(
    `Cannot set up Jupyter: ${trouble ?? "its packages do not load"}; ` +
      "install Python 3.11 or newer with pip (for example: apt-get install python3 python3-pip)",
  );
}
