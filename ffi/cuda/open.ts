/** Opening the CUDA library on a device. */
import type { Products } from "../../lib/backend.ts";
import { expectInteger, expectOptions, NativeLibraryError, type TypeName } from "../../lib/errors.ts";
import type { CudaManifest } from "../build/cuda.ts";
import { findLibrary, loadLibrary, namedLibrary } from "../library/library.ts";
import { CUDA_ARCHS } from "../library/sources.ts";
import { CudaBackend } from "./backend.ts";
import { CudaContext } from "./context.ts";
import { loadCublasLt } from "./cublaslt.ts";
import { CudaMemory } from "./device_memory.ts";
import { openDriver } from "./driver/driver.ts";
import { CUDA_SYMBOLS, type CudaLibrary } from "../library/symbols.ts";
import { testedBuild, wasTested } from "./tested.ts";

/** Milliseconds after a failed download of cuBLASLt before the next try. */
const CUBLASLT_PAUSE_MS = 24 * 3600e3;

/** Options of {@linkcode openCuda}. */
export interface CudaOptions {
  /** 0-based number of the device, after `CUDA_VISIBLE_DEVICES`. Default 0. */
  readonly device?: number;
  /** Path of the library; by default `TOKENFILTER_CUDA_LIBRARY`, else the build of these sources in the cache. */
  readonly library?: string;
  /**
   * Prefill by wgmma and TMA, see {@linkcode CudaBackend.useWgmma}. By default where the device has them and
   * `deno task test:gpu` has passed with this device, driver and build; `TOKENFILTER_GPU_TESTED=none` ignores that.
   */
  readonly wgmma?: boolean;
  /** Rounding of products with weights, see {@linkcode CudaBackend.useBf16}. Default `exact`. */
  readonly products?: Exclude<Products, "int8">;
  /** Launches that overlap, see {@linkcode CudaBackend.useDependentLaunch}. Default as of `wgmma`. */
  readonly dependentLaunch?: boolean;
  /**
   * Keep freed device memory for later allocations, which then need not wait; true by default. False for
   * compute-sanitizer, which then finds the end of each buffer.
   */
  readonly reuse?: boolean;
  /**
   * Build the library for this device where the cache has none of these sources, as `./build` does for all, and fetch
   * cuBLASLt where none is installed; false by default. A library that is named is taken as it is.
   */
  readonly build?: boolean;
  /** Is called with short lines about builds and downloads. */
  readonly onProgress?: (message: string) => void;
}

const OPTIONS: Record<keyof CudaOptions, TypeName> = {
  device: "number",
  library: "string",
  wgmma: "boolean",
  products: "string",
  dependentLaunch: "boolean",
  reuse: "boolean",
  build: "boolean",
  onProgress: "function",
};

/**
 * Opens the CUDA library on a device, with a stream of its own, and cuBLASLt for its products of many rows where that is
 * installed (or lies at `TOKENFILTER_CUBLASLT`). `using` frees memory, stream and context; any use
 * afterwards throws. Without it, they are freed some time after the last reference to the backend or a tensor of it is
 * gone. The driver's own context, with the code of kernels, may stay until the process ends.
 *
 * @example
 * ```ts ignore
 * import { hostTensor } from "@tokenfilter/tokenfilter";
 * import { openCuda } from "@tokenfilter/tokenfilter/ffi";
 * using backend = await openCuda();
 * const x = backend.upload(hostTensor("f32", [1, 2], Float32Array.of(0, 1)));
 * backend.swiglu(x, x, x);
 * console.assert(Math.abs(backend.read(x).data[1] - 0.7310586) < 1e-6);
 * ```
 *
 * @throws {TypeError | RangeError} If an option is unknown, or its value wrong.
 * @throws {NativeLibraryError} If there is no driver or device, they are too old, another device is open in this thread,
 * or the library is not built, not whole, or of another version. The message contains the state that was found and the command that helps.
 */
export async function openCuda(options: CudaOptions = {}): Promise<CudaBackend> {
  expectOptions(options, OPTIONS);
  const { device: ordinal = 0, products = "exact" } = options;
  expectInteger("device", ordinal, 0);
  if (products !== "exact" && products !== "bf16") {
    throw new RangeError(`Cannot use products "${products}": expected exact, bf16`);
  }
  const driver = openDriver(), device = driver.device(ordinal);
  const builds = options.build && namedLibrary("cuda", options.library) === undefined;
  if (builds) {
    const { buildCuda } = await import("../build/mod.ts");
    const { version } = driver;
    await buildCuda({ archs: [buildArchOf(device.arch)], driver: version, onProgress: options.onProgress });
  }
  const { path, manifest } = await findLibrary<CudaManifest>("cuda", options.library);
  // A driver runs builds for its own major version, later minor ones included.
  if (manifest !== undefined) driver.expectVersion(1000 * Number.parseInt(manifest.nvcc));
  const memory = new CudaMemory(driver, device, { reuse: options.reuse ?? true });
  try {
    const context = new CudaContext(loadCudaLibrary(path), memory);
    const tested = manifest !== undefined &&
      await wasTested(testedBuild(device, driver.version, manifest.sha256));
    const { wgmma = tested, dependentLaunch = tested } = options;
    if (wgmma && !context.useWgmma(true) && options.wgmma) {
      throw new NativeLibraryError(
        `Cannot use wgmma on ${memory.description}: expected a device of sm_90, and a library built for 90a`,
      );
    }
    const backend = new CudaBackend(context, memory);
    if (dependentLaunch && !backend.useDependentLaunch(true) && options.dependentLaunch) {
      throw new NativeLibraryError(
        `Cannot use dependent launches on ${memory.description}: expected a device of sm_90 or later, ` +
          "a driver of CUDA 12.3 or later, and a library built for the device",
      );
    }
    if (builds && manifest !== undefined) {
      const { ensureCublasLt } = await import("../build/cublaslt.ts"), { onProgress } = options;
      await ensureCublasLt(manifest.nvcc, { onProgress, pauseMs: CUBLASLT_PAUSE_MS });
    }
    loadCublasLt(context);
    if (products === "bf16" && !backend.useBf16(true)) {
      throw new NativeLibraryError(
        `Cannot round products to bf16 on ${memory.description}: ${context.message}; ` +
          "use exact ones, or install cuBLASLt: python3 -m pip install nvidia-cublas",
      );
    }
    return backend;
  } catch (error) {
    memory[Symbol.dispose]();
    throw error;
  }
}

/**
 * The entry of {@linkcode CUDA_ARCHS} that runs on a device: its own, else the next lower one of its major version. If
 * there is none, it is "80", whose PTX the driver compiles. "90a" is only for 90.
 */
export function buildArchOf(arch: number): string {
  const major = Math.floor(arch / 10), runs = (name: string) => Math.floor(Number(name) / 10) === major;
  return CUDA_ARCHS.findLast((name) => name === `${arch}a` || (runs(name) && Number(name) <= arch)) ?? "80";
}

/** Opens a CUDA library; no driver is needed for that. */
export function loadCudaLibrary(path: string): CudaLibrary {
  return loadLibrary("cuda", path, CUDA_SYMBOLS);
}
