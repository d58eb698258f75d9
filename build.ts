/**
 * Builds the native library on first use, and fetches a BLAS for it.
 *
 * ```sh
 * deno run -A build.ts           # build what is missing
 * deno run -A build.ts --force   # build again
 * deno run -A build.ts --emulated        # also the CUDA library's kernels, for tests on the CPU
 * deno run -A build.ts --cuda            # also the CUDA library, and says what its kernels take; fetches nvcc
 * deno run -A build.ts --cuda --arch 90a # for one architecture, or several: 80,90a
 * deno run -A build.ts --cuda --table    # and renews the table in kernels/README.md; exit status 1 where it was old
 * ```
 * @module
 */
import { ensureBlas, type FoundBlas } from "./ffi/blas.ts";
import { type Compiler, findCompiler, gitHash, inParallel, run } from "./ffi/build/command.ts";
import {
  buildCuda,
  CUDA_ARCHS,
  type CudaLibrary,
  type CudaManifest,
  type CudaOptions,
} from "./ffi/build/cuda.ts";
import { buildEmulated, type EmulatedLibrary, type EmulatedOptions } from "./ffi/build/emulated.ts";
import {
  type BuildManifest,
  cacheDir,
  isMissing,
  LIBRARY_SUFFIX,
  manifestPath,
  prepareCacheDir,
  writeAtomically,
} from "./ffi/cache.ts";
import { describeKernels, readTrace, renewTable } from "./ffi/build/table.ts";
import { writeSources } from "./ffi/build/units.ts";
import { FLAGS, type Level, LEVELS, LINUX_LINK_FLAGS, readKernelSources, sha256 } from "./ffi/sources.ts";
import { NativeLibraryError } from "./lib/errors.ts";

export {
  buildCuda,
  buildEmulated,
  cacheDir,
  CUDA_ARCHS,
  type CudaLibrary,
  type CudaManifest,
  type CudaOptions,
  type EmulatedLibrary,
  type EmulatedOptions,
  ensureBlas,
  type FoundBlas,
  prepareCacheDir,
};

/** Options of {@linkcode buildCpu}. */
export interface BuildOptions {
  /** Build even where the cache holds the library. */
  readonly force?: boolean;
  /** Is told what goes on, in short lines, only where something has to be done. */
  readonly onProgress?: (message: string) => void;
}

/** A library that is ready to load. */
export interface BuiltLibrary {
  /** Its path. */
  readonly path: string;
  readonly manifest: BuildManifest;
  /** Whether it was there already. */
  readonly cached: boolean;
}

/**
 * Builds the CPU library, unless the cache holds the build of these very sources, compiler and flags.
 *
 * @throws {NativeLibraryError} If there is no compiler, or it fails (the message holds what it said), or the cache
 * folder takes no files.
 *
 * @example
 * ```ts ignore
 * const { path, cached } = await buildCpu({ onProgress: console.error });
 * ```
 */
export async function buildCpu(options: BuildOptions = {}): Promise<BuiltLibrary> {
  const { force = false, onProgress = () => {} } = options;
  const levels = LEVELS[Deno.build.arch];
  if (levels === undefined || Deno.build.os === "windows") {
    throw new NativeLibraryError(
      `Cannot build the native library: found ${Deno.build.os} on ${Deno.build.arch}, ` +
        "expected Linux or macOS on x86_64 or aarch64",
    );
  }
  if (!force) {
    const cached = await cachedLibrary(await manifestPath());
    if (cached !== undefined) {
      const compiler = await findCompiler().catch(() => undefined); // a machine without one can still run a build
      if (compiler === undefined || compiler.version === cached.manifest.compiler) return cached;
    }
  }
  const started = performance.now();
  const compiler = await findCompiler();
  await prepareCacheDir();
  const sources = await readKernelSources();
  const work = await Deno.makeTempDir({ prefix: "tokenfilter-build-" });
  try {
    const { library, warnings } = await compile(compiler, levels, sources, work, onProgress);
    const digest = await sha256(library);
    const name = `libtokenfilter_cpu-${digest.slice(0, 16)}.${LIBRARY_SUFFIX}`;
    const path = `${cacheDir()}/${name}`;
    await writeAtomically(path, library);
    const header = sources.get("include/tokenfilter.h")!;
    const manifest: BuildManifest = {
      abi: Number(header.match(/#define TKF_ABI_VERSION (\d+)/)?.[1]),
      git: await gitHash(),
      compiler: compiler.version,
      flags: FLAGS,
      levels: levels.map(({ name }) => name),
      library: name,
      sha256: digest,
      warnings,
      buildMs: Math.round(performance.now() - started),
    };
    await writeAtomically(await manifestPath(sources), JSON.stringify(manifest, null, 2) + "\n");
    return { path, manifest, cached: false };
  } finally {
    await Deno.remove(work, { recursive: true });
  }
}

/** The library that a manifest names, if both are there and agree. */
async function cachedLibrary(noted: string): Promise<BuiltLibrary | undefined> {
  try {
    const manifest: BuildManifest = JSON.parse(await Deno.readTextFile(noted));
    const path = `${cacheDir()}/${manifest.library}`;
    if (await sha256(await Deno.readFile(path)) !== manifest.sha256) return undefined;
    return { path, manifest, cached: true };
  } catch (error) {
    if (isMissing(error) || error instanceof SyntaxError) return undefined;
    throw error;
  }
}

/** Compiles every translation unit, as many at once as there are cores, and links them. */
async function compile(
  compiler: Compiler,
  levels: readonly Level[],
  sources: Map<string, string>,
  work: string,
  onProgress: (message: string) => void,
): Promise<{ library: Uint8Array<ArrayBuffer>; warnings: string }> {
  await writeSources(sources, work);
  const lowest = levels[0].flags;
  const units = [
    ...levels.map(({ name, code, flags }) => ({
      name: `level ${name}`,
      args: [...flags, `-DTKF_LEVEL=${code}`, "-c", "common/level.cpp", "-o", `${name}.o`],
      object: `${name}.o`,
    })),
    {
      name: "entry points",
      args: [...lowest, "-c", "common/entries.cpp", "-o", "entries.o"],
      object: "entries.o",
    },
  ];
  let warnings = "";
  let done = 0;
  onProgress(`compiling the kernels with ${compiler.version}`);
  await inParallel(units, async (unit) => {
    const { success, stderr } = await run(
      compiler.command,
      [...compiler.args, ...FLAGS, ...unit.args],
      { cwd: work },
    );
    if (!success) throw failure(unit.name, stderr);
    warnings += stderr;
    onProgress(`compiled ${unit.name} (${++done} of ${units.length})`);
  });

  await Deno.writeTextFile(`${work}/exports`, "{ global: tkf_*; local: *; };\n"); // a version script, for ld on Linux
  const linked = await run(compiler.command, [
    ...compiler.args,
    "-shared",
    "-pthread",
    ...units.map(({ object }) => object),
    ...(Deno.build.os === "linux" ? LINUX_LINK_FLAGS : []),
    "-o",
    "library",
  ], { cwd: work });
  if (!linked.success) throw failure("the library", linked.stderr);
  return { library: await Deno.readFile(`${work}/library`), warnings: warnings + linked.stderr };
}

function failure(what: string, stderr: string): NativeLibraryError {
  return new NativeLibraryError(
    `Cannot build the native library: the compiler failed on ${what}:\n${stderr}`,
  );
}

/** What the command line asks for. */
interface Asked {
  readonly force: boolean;
  readonly emulated: boolean;
  readonly cuda: boolean;
  /** Architectures; undefined: all. */
  readonly archs: readonly string[] | undefined;
  readonly table: boolean;
  /** File in which runs of the emulated library have noted launches (`TKF_EMULATOR_TRACE`), for the table. */
  readonly trace: string | undefined;
}

function parseArgs(args: readonly string[]): Asked {
  let force = false, emulated = false, cuda = false, table = false;
  let trace: string | undefined;
  let archs: readonly string[] | undefined;
  for (let i = 0; i < args.length; i++) {
    if (args[i] === "--force") force = true;
    else if (args[i] === "--emulated") emulated = true;
    else if (args[i] === "--cuda") cuda = true;
    else if (args[i] === "--table") table = true;
    else if (args[i] === "--trace") trace = args[++i] ?? "";
    else if (args[i] === "--arch") {
      archs = (args[++i] ?? "").split(",");
      const unknown = archs.find((arch) => !CUDA_ARCHS.includes(arch));
      if (unknown !== undefined) {
        throw new RangeError(`Cannot use --arch "${unknown}": expected some of ${CUDA_ARCHS.join(",")}`);
      }
    } else {
      const known = "--force, --emulated, --cuda, --arch LIST, --table, --trace FILE";
      throw new RangeError(`Cannot use "${args[i]}": expected ${known} or nothing`);
    }
  }
  if (archs !== undefined && !cuda) throw new RangeError("Cannot use --arch: expected --cuda beside it");
  if (table && (!cuda || archs !== undefined)) {
    throw new RangeError("Cannot use --table: expected --cuda, and no --arch, beside it");
  }
  if (trace !== undefined && (!table || trace === "")) {
    throw new RangeError("Cannot use --trace: expected a file, and --cuda and --table, beside it");
  }
  return { force, emulated, cuda, archs, table, trace };
}

async function main({ force, emulated, cuda, archs, table, trace }: Asked): Promise<void> {
  const options = { force, onProgress: (message: string) => console.error(message) };
  const found = (cached: boolean) => cached ? "found" : "built";
  const { path, manifest, cached } = await buildCpu(options);
  console.log(`${found(cached)} ${path} (${manifest.levels.join(", ")})`);
  if (manifest.warnings !== "") console.error(manifest.warnings);
  const blas = await ensureBlas(options);
  console.log(`matrix products: ${blas.path ?? "built-in"} (${blas.reason})`);
  if (emulated) {
    const { path, cached, warnings } = await buildEmulated(options);
    console.log(`${found(cached)} ${path}`);
    if (warnings !== "") console.error(warnings);
  }
  if (cuda) {
    const { path, cached, manifest } = await buildCuda({ ...options, archs });
    if (!cached) console.log(await describeKernels(manifest));
    const { nvcc, oldestDriver, kernels } = manifest;
    console.log(`${found(cached)} ${path} (${manifest.archs.map((arch) => `sm_${arch}`).join(", ")})`);
    console.log(`${kernels.length} kernels by nvcc ${nvcc}; needs a driver of ${oldestDriver} or later`);
    if (!table) return;
    const launches = trace === undefined
      ? undefined
      : await readTrace(await Deno.readTextFile(trace), (await buildEmulated(options)).path);
    const upToDate = await renewTable(manifest, launches);
    console.log(`kernels/README.md: ${upToDate ? "its table is up to date" : "its table was old; renewed"}`);
    if (!upToDate && trace === undefined) Deno.exit(1);
  }
}

if (import.meta.main) {
  try {
    await main(parseArgs(Deno.args));
  } catch (error) {
    if (!(error instanceof NativeLibraryError || error instanceof RangeError)) throw error;
    console.error(error.message);
    Deno.exit(error instanceof RangeError ? 2 : 1);
  }
}
