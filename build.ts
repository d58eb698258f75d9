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
 * deno run -A jsr:@tokenfilter/tokenfilter/build --out DIR # a copy for engines in C or Python
 * deno run -A jsr:@tokenfilter/tokenfilter/build --help    # all flags
 * ```
 *
 * Compilers are g++ or clang++; nvcc is fetched with pip where there is none.
 * @module
 */
import { describeFlags, FLAGS, readFlags } from "./ffi/build/flags.ts";
import { runBuild } from "./ffi/build/mod.ts";
import { NativeLibraryError, UsageError } from "./lib/errors.ts";

export { buildCpu, buildCuda, type BuiltLibrary, ensureBlas } from "./ffi/build/mod.ts";

if (import.meta.main) {
  try {
    const { help, ...flags } = readFlags(Deno.args, FLAGS);
    if (help) console.log(describeFlags("deno run -A jsr:@tokenfilter/tokenfilter/build", FLAGS));
    else await runBuild(flags, { print: console.log, onProgress: console.error });
  } catch (error) {
    const isUsage = error instanceof RangeError || error instanceof UsageError;
    if (!isUsage && !(error instanceof NativeLibraryError)) throw error;
    console.error(error.message);
    Deno.exit(isUsage ? 2 : 1);
  }
}
