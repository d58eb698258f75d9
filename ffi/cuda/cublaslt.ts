/** NVIDIA's cuBLASLt for products of many rows: where it may lie. Without it the library's own kernels serve. */
import { cacheDir, userCacheDir } from "../../lib/cache.ts";
import { NativeLibraryError } from "../../lib/errors.ts";
import { STATUS } from "../library/abi.ts";
import type { CudaContext } from "./context.ts";

/** Names of the versions whose interface the library supports, the newest first. */
const NAMES = ["libcublasLt.so.13", "libcublasLt.so.12"];

/** Prints the folders of Python packages, one a line. */
const PYTHON = "import site, sysconfig; " +
  "print('\\n'.join({sysconfig.get_path('purelib'), *site.getsitepackages(), site.getusersitepackages()}))";

function pythonFolders(): string[] {
  if (Deno.permissions.querySync({ name: "run", command: "python3" }).state !== "granted") return [];
  try {
    const { success, stdout } = new Deno.Command("python3", {
      args: ["-c", PYTHON],
      stdin: "null",
      stderr: "null",
    })
      .outputSync();
    return success ? new TextDecoder().decode(stdout).trim().split("\n") : [];
  } catch {
    return []; // no python3
  }
}

/** Path of the copy that `ensureCublasLt` fetches. @param major The major version of CUDA. */
export function fetchedCublasLt(major: string): string {
  return `${cacheDir()}/libcublasLt-${Deno.build.arch}.so.${major}`;
}

/**
 * Places to search, best first: the loader's own, the toolkit's folders (`CUDA_HOME`, `CUDA_PATH`, /usr/local/cuda),
 * Python packages, the fetched copy.
 */
export function* cublasLtPlaces(): Generator<string> {
  yield* NAMES;
  for (const home of [Deno.env.get("CUDA_HOME"), Deno.env.get("CUDA_PATH"), "/usr/local/cuda"]) {
    if (!home) continue;
    for (const folder of ["lib64", "lib"]) for (const name of NAMES) yield `${home}/${folder}/${name}`;
  }
  // NVIDIA's packages, PyTorch's among them.
  for (const folder of pythonFolders()) {
    for (const name of NAMES) {
      for (const part of ["cu13", "cublas"]) yield `${folder}/nvidia/${part}/lib/${name}`;
    }
  }
  if (userCacheDir() === undefined && !Deno.env.get("TOKENFILTER_CACHE")) return;
  for (const name of NAMES) yield fetchedCublasLt(name.split(".").at(-1)!);
}

/** The first place with a cuBLASLt that the system loads; undefined where there is none. */
export function findCublasLt(): string | undefined {
  for (const path of cublasLtPlaces()) {
    try {
      // Opened for a look only; the loader keeps no handle once this one is closed.
      Deno.dlopen(path, { cublasLtGetVersion: { parameters: [], result: "usize" } }).close();
      return path;
    } catch (error) {
      if (error instanceof Deno.errors.NotCapable) throw error;
    }
  }
  return undefined;
}

/**
 * Loads cuBLASLt into a context of the CUDA library: `TOKENFILTER_CUBLASLT` (a path, or `none`) where it is set, else
 * the first that is found.
 *
 * @returns The path; undefined where there is none, or none is wanted: the built-in kernels then serve.
 * @throws {NativeLibraryError} If the one that was asked for does not serve.
 */
export function loadCublasLt(
  context: CudaContext,
  places: Iterable<string> = cublasLtPlaces(),
): string | undefined {
  const asked = Deno.env.get("TOKENFILTER_CUBLASLT");
  if (asked === "none") return undefined;
  for (const path of asked ? [asked] : places) {
    const { library: { symbols }, pointer } = context;
    const status = symbols.tkf_blas_load(pointer, new TextEncoder().encode(path + "\0"));
    if (status === STATUS.ok) return path;
    if (asked) {
      throw new NativeLibraryError(
        `Cannot load cuBLASLt from "${path}": ${context.message}; ` +
          'set TOKENFILTER_CUBLASLT to another one, or to "none"',
      );
    }
  }
  return undefined;
}
