/**
 * The native backends: the CPU's, and a GPU's through the CUDA driver.
 *
 * ```ts
 * import { openCpu } from "@tokenfilter/tokenfilter/ffi";
 * const backend = await openCpu({ threads: 2 });
 * console.assert(backend.name === "cpu" && backend.description.includes("2 threads"));
 * ```
 * @module
 */
import type { Products } from "../lib/backend.ts";
import { expectInteger, expectOptions, NoLibraryError, type TypeName } from "../lib/errors.ts";
import { CpuBackend } from "./cpu/backend.ts";
import { findBlas } from "./blas.ts";
import { expectLevel, NativeContext, supportedLevels } from "./cpu/context.ts";
import { findLibrary, loadLibrary, namedLibrary, openCpuLibrary } from "./library/library.ts";
import { findPrebuilt } from "./library/prebuilt.ts";
import { SYMBOLS } from "./library/symbols.ts";
import { openWasm, type WasmBackend } from "./wasm/mod.ts";
import { MOST_THREADS } from "./wasm/threads.ts";

export { CpuBackend } from "./cpu/backend.ts";
export { CudaBackend } from "./cuda/backend.ts";
export { CudaError } from "./cuda/driver/driver.ts";
export { type CudaOptions, openCuda } from "./cuda/open.ts";
export { mapFile } from "./library/map_file.ts";

/** Options of {@linkcode openCpu}. */
export interface CpuOptions {
  /**
   * Threads, the calling one included; all cores by default. Where skipped tokens stay visible in a recent window, the last
   * digits of results depend on their number, decisions in practice do not; without such a window nothing does.
   */
  readonly threads?: number;
  /** Instruction-set level (`base`, `avx2`, `avx512`); `TOKENFILTER_LEVEL`, else the machine's best, by default. */
  readonly level?: string;
  /**
   * Rounding in matrix multiplications with weights. `exact` (the default) rounds nothing. `bf16` rounds both factors
   * if there are more than 8 rows: this is faster in prefills, needs AMX or AVX512-BF16, and changes results a little.
   * `int8` rounds activations to bytes where weights have up to 8 bits: it is faster on every processor, also in decoding, and
   * changes results somewhat more; at all levels alike, bit by bit.
   */
  readonly products?: Products;
  /**
   * Path of the library. By default `TOKENFILTER_LIBRARY`, else that of the npm package for this platform, if the program
   * has it installed and its digest is this release's, else the build of these sources in the cache.
   */
  readonly library?: string;
  /** Path of an OpenBLAS, or `none`; by default the one that `findBlas` finds. */
  readonly blas?: string;
  /**
   * Build the library where the cache has none of these sources, and fetch an OpenBLAS for it, as `./build` does; false
   * by default. A library that is named or installed is taken as it is, and so is a BLAS.
   */
  readonly build?: boolean;
  /** Called with short lines about each build or download. */
  readonly onProgress?: (message: string) => void;
}

const OPTIONS: Record<keyof CpuOptions, TypeName> = {
  threads: "number",
  level: "string",
  products: "string",
  library: "string",
  blas: "string",
  build: "boolean",
  onProgress: "function",
};
/** Reasons for WebAssembly, each of which is told once. */
const toldReasons = new Set<string>();
/** How long a BLAS that could not be fetched is done without: `build` tries at once. */
const BLAS_PAUSE_MS = 24 * 3600e3;

/**
 * Opens the native CPU library. The backend's threads end with `using`, or once there is no reference to it. Its
 * `description` names the library, unless that is the build of these sources.
 *
 * Where there is neither a library nor a compiler for one, or Deno runs with `--deny-ffi`, it opens the same kernels as
 * WebAssembly (see `./wasm`), which are some three times slower, on one thread unless `threads` asks for more; `onProgress`
 * is told. It throws instead if an option or a variable names a library, a level, a BLAS or other products.
 *
 * @throws {TypeError | RangeError} If an option is unknown, or its value wrong.
 * @throws {NativeLibraryError} If the library is not whole, or of another version; if what was named is not there; if the
 * machine lacks the level or the instructions for `products`; or if the BLAS cannot be loaded. The message names every
 * place tried and the command that helps.
 */
export async function openCpu(options: CpuOptions = {}): Promise<CpuBackend | WasmBackend> {
  expectOptions(options, OPTIONS);
  const named = namedLibrary("cpu", options.library) ?? options.level ?? Deno.env.get("TOKENFILTER_LEVEL");
  const asksForMore = named || options.blas || (options.products ?? "exact") !== "exact";
  try {
    if (!asksForMore && Deno.permissions.querySync({ name: "ffi" }).state === "denied") {
      throw new NoLibraryError(
        "Cannot load a native library: found no permission for it; run with: --allow-ffi",
      );
    }
    return await openNative(options);
  } catch (error) {
    if (asksForMore || !(error instanceof NoLibraryError)) throw error;
    expectInteger("threads", options.threads ?? 1, 1, 1024);
    if (!toldReasons.has(error.message)) {
      options.onProgress?.(`${error.message}. Going on with WebAssembly, which is some three times slower`);
    }
    toldReasons.add(error.message);
    return await openWasm({ threads: Math.min(options.threads ?? 1, MOST_THREADS) });
  }
}

async function openNative(options: CpuOptions): Promise<CpuBackend> {
  const { threads, library, products, level = Deno.env.get("TOKENFILTER_LEVEL") || undefined } = options;
  expectLevel(level); // before a library of such a level is looked for
  if (options.build) {
    const { buildCpu } = await import("./build/mod.ts");
    const { ensureBlas, findLevel } = await import("./build/blas.ts");
    const { onProgress, blas } = options;
    const fetchBlas = async () =>
      await ensureBlas({ level: level ?? await findLevel(), onProgress, pauseMs: BLAS_PAUSE_MS });
    const isThere = namedLibrary("cpu", library) ?? (await findPrebuilt())?.path;
    await Promise.all([isThere ?? buildCpu({ level, onProgress }), blas ?? fetchBlas()]);
  }
  const found = await findLibrary("cpu", library, { level });
  const context = new NativeContext(loadLibrary("cpu", found.path, SYMBOLS), { threads, level, products });
  const describe = (blas?: string) => [blas, found.note].filter(Boolean).join("; ");
  if (options.blas !== undefined) {
    if (options.blas !== "none") context.loadBlas(options.blas);
    return new CpuBackend(context, describe());
  }
  const { path, reason } = await findBlas(undefined, context.level);
  if (path !== undefined) context.loadBlas(path);
  return new CpuBackend(context, describe(reason));
}

/** Instruction-set levels that this machine and the library have, lowest first. */
export async function cpuLevels(options: Pick<CpuOptions, "library"> = {}): Promise<string[]> {
  expectOptions(options, { library: "string" });
  return supportedLevels(await openCpuLibrary(options.library));
}
