/**
 * Builds the native library into the user's cache, where `openCpu` and `openCuda` find it, and fetches a BLAS for it.
 *
 * ```ts
 * import { buildCpu } from "@tokenfilter/tokenfilter/build";
 * const { path } = await buildCpu();
 * console.assert(path.includes("tokenfilter"));
 * ```
 *
 * As a command (in a checkout: `deno task build`, with the same flags):
 *
 * ```sh
 * deno run -A jsr:@tokenfilter/tokenfilter/build           # what is missing, for this machine's processor
 * deno run -A jsr:@tokenfilter/tokenfilter/build --all     # for every processor of this architecture
 * deno run -A jsr:@tokenfilter/tokenfilter/build --force   # again
 * deno run -A jsr:@tokenfilter/tokenfilter/build --cuda    # also the CUDA library
 * deno run -A jsr:@tokenfilter/tokenfilter/build --cuda --arch 90a # for one architecture, or several: 80,90a
 * ```
 *
 * Compilers are g++ or clang++; nvcc is fetched with pip where there is none.
 * @module
 */
import { expectArchs } from "./ffi/build/cuda.ts";
import { FLAGS, readFlags } from "./ffi/build/flags.ts";
import { buildCpu, buildCuda, type BuiltLibrary, type CudaManifest, ensureBlas } from "./ffi/build/mod.ts";
import { NativeLibraryError, UsageError } from "./lib/errors.ts";

export * from "./ffi/build/mod.ts";

/** What {@linkcode runBuild} takes. */
export interface BuildFlags {
  /** Build again what is there. */
  readonly force?: boolean;
  /** Instruction-set level of the CPU library: `base`, `avx2`, `avx512`; the best of this machine where left out. */
  readonly level?: string;
  /** Build every level of the CPU library. */
  readonly all?: boolean;
  /** Build the CUDA library too. */
  readonly cuda?: boolean;
  /** Architectures of the CUDA library, separated by commas; all where left out. */
  readonly arch?: string;
}

/**
 * What the command does: builds, and prints where the libraries lie.
 *
 * @returns The CUDA library, where `--cuda` is given.
 * @throws {UsageError} If `--arch` has no `--cuda` beside it, or `--level` has `--all`.
 * @throws As {@linkcode buildCpu} and {@linkcode buildCuda} do.
 */
export async function runBuild(flags: BuildFlags): Promise<BuiltLibrary<CudaManifest> | undefined> {
  const { force, cuda, arch, all, level } = flags, asked = arch?.split(",");
  if (arch !== undefined && !cuda) throw new UsageError("Cannot use --arch: expected --cuda beside it");
  if (all && level !== undefined) throw new UsageError("Cannot use --level: found --all beside it");
  if (asked !== undefined) expectArchs(asked);
  const options = { force, onProgress: (message: string) => console.error(message) };
  const { path, manifest, cached } = await buildCpu({ ...options, level: all ? "all" : level });
  console.log(`${cached ? "found" : "built"} ${path} (${manifest.levels.join(", ")})`);
  if (manifest.warnings !== "") console.error(manifest.warnings);
  const blas = await ensureBlas(options);
  console.log(`matrix products: ${blas.path ?? "built-in"} (${blas.reason})`);
  if (!cuda) return undefined;
  const built = await buildCuda({ ...options, archs: asked });
  const { nvcc, oldestDriver, kernels, archs } = built.manifest;
  console.log(
    `${built.cached ? "found" : "built"} ${built.path} (${archs.map((name) => `sm_${name}`).join(", ")})`,
  );
  console.log(`${kernels.length} kernels by nvcc ${nvcc}; needs a driver of ${oldestDriver} or later`);
  return built;
}

if (import.meta.main) {
  try {
    await runBuild(readFlags(Deno.args, FLAGS));
  } catch (error) {
    const isUsage = error instanceof RangeError || error instanceof UsageError;
    if (!isUsage && !(error instanceof NativeLibraryError)) throw error;
    console.error(error.message);
    Deno.exit(isUsage ? 2 : 1);
  }
}
