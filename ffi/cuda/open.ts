/** Opening the CUDA library on a device. */
import { NativeLibraryError } from "../../lib/errors.ts";
import { cachedCuda, CUDA_ARCHS, cudaManifestPath } from "../build/cuda.ts";
import { cacheDir, isMissing } from "../cache.ts";
import { ABI_VERSION } from "../symbols.ts";
import { CudaBackend } from "./backend.ts";
import { CudaContext } from "./context.ts";
import { loadCublasLt } from "./cublaslt.ts";
import { CudaMemory } from "./device_memory.ts";
import { openDriver } from "./driver.ts";
import { CUDA_SYMBOLS, type CudaSymbols } from "./symbols.ts";

/** The command that mends a missing or outdated library. */
const MEND = "run: deno run -A build.ts --cuda";

/** Options of {@linkcode openCuda}. */
export interface CudaOptions {
  /** 0-based number of the device, after `CUDA_VISIBLE_DEVICES`. Default 0. */
  readonly device?: number;
  /** Path of the library; by default `TOKENFILTER_CUDA_LIBRARY`, else the build of these sources in the cache. */
  readonly library?: string;
  /** Prefill by wgmma and TMA, as {@linkcode CudaBackend.useWgmma} says; false by default. */
  readonly wgmma?: boolean;
  /**
   * Keep freed device memory for later allocations, which then need not wait; true by default. False for
   * compute-sanitizer, which then sees where each buffer ends.
   */
  readonly reuse?: boolean;
}

const opened = new Map<string, CudaSymbols>();

/**
 * Opens the CUDA library on a device, with a stream of its own, and cuBLASLt for its products of many rows where that is
 * installed (or lies at `TOKENFILTER_CUBLASLT`). `using` gives all that the device holds back where the block ends; any
 * use afterwards throws. Without it, that is given back some time after nobody holds the backend or a tensor of it.
 *
 * @example
 * ```ts ignore
 * import { openCuda } from "@tokenfilter/tokenfilter/ffi";
 * import { hostTensor } from "@tokenfilter/tokenfilter";
 * using backend = await openCuda();
 * const x = backend.upload(hostTensor("f32", [1, 2], Float32Array.of(0, 1)));
 * backend.swiglu(x, x, x);
 * console.assert(Math.abs(backend.read(x).data[1] - 0.7310586) < 1e-6);
 * ```
 *
 * @throws {NativeLibraryError} If there is no driver or device, they are too old, another device is open in this thread,
 * or the library is not built, not whole, or of another version. The message says what was found and the mend.
 */
export async function openCuda(options: CudaOptions = {}): Promise<CudaBackend> {
  const driver = openDriver();
  const device = driver.device(options.device ?? 0);
  const { path, nvcc } = await findCudaLibrary(options.library);
  // A driver runs what was built for its own major version, later minor ones included.
  if (nvcc !== undefined) driver.expectVersion(1000 * Number.parseInt(nvcc));
  const memory = new CudaMemory(driver, device, { reuse: options.reuse ?? true });
  try {
    const context = new CudaContext(loadCudaLibrary(path), memory);
    if (options.wgmma && !context.useWgmma(true)) {
      throw new NativeLibraryError(
        `Cannot use wgmma on ${memory.description}: expected a device of sm_90, and a library built for 90a`,
      );
    }
    loadCublasLt(context);
    return new CudaBackend(context, memory);
  } catch (error) {
    memory[Symbol.dispose]();
    throw error;
  }
}

/** The entry of {@linkcode CUDA_ARCHS} that is made for a device; "80", whose PTX it compiles, where none is. */
export function buildArchOf(arch: number): string {
  return CUDA_ARCHS.find((name) => name === `${arch}` || name === `${arch}a`) ?? "80";
}

/**
 * Path of the CUDA library, and the version of nvcc that built it where that is known: `explicit`, else `TOKENFILTER_CUDA_LIBRARY`, else the build of the present sources in the
 * cache.
 *
 * @throws {NativeLibraryError} If it is in none of those places, or differs from what its build noted.
 */
export async function findCudaLibrary(explicit?: string): Promise<{ path: string; nvcc?: string }> {
  const asked = explicit ?? Deno.env.get("TOKENFILTER_CUDA_LIBRARY");
  if (asked) {
    try {
      if ((await Deno.stat(asked)).isFile) return { path: await Deno.realPath(asked) };
    } catch (error) {
      if (!isMissing(error)) throw error;
    }
    const source = explicit === undefined ? "TOKENFILTER_CUDA_LIBRARY" : "the path given";
    throw new NativeLibraryError(
      `Cannot find the CUDA library: found nothing at "${asked}" (${source}), expected a built library; ${MEND}`,
    );
  }
  const built = await cachedCuda(await cudaManifestPath());
  if (built === undefined) {
    throw new NativeLibraryError(
      `Cannot find the CUDA library: found neither TOKENFILTER_CUDA_LIBRARY nor a whole build of these sources in "${cacheDir()}"; ${MEND}`,
    );
  }
  return { path: built.path, nvcc: built.manifest.nvcc };
}

/**
 * Opens a CUDA library and checks its ABI version; no driver is needed for that.
 *
 * @throws {NativeLibraryError} If the system cannot load it, or its ABI is another.
 */
export function loadCudaLibrary(path: string): CudaSymbols {
  const known = opened.get(path);
  if (known !== undefined) return known;
  let symbols: CudaSymbols;
  try {
    symbols = Deno.dlopen(path, CUDA_SYMBOLS).symbols as unknown as CudaSymbols;
  } catch (error) {
    if (!(error instanceof Error) || error instanceof Deno.errors.NotCapable) throw error;
    throw new NativeLibraryError(
      `Cannot load "${path}": ${error.message}; ${MEND}`,
      { cause: error },
    );
  }
  const found = symbols.tkf_abi_version();
  if (found !== ABI_VERSION) {
    throw new NativeLibraryError(
      `Cannot use "${path}": found ABI version ${found}, expected ${ABI_VERSION}; ${MEND} --force`,
    );
  }
  opened.set(path, symbols);
  return symbols;
}
