/**
 * Builds the native library on first use, and fetches a BLAS for it.
 *
 * ```sh
 * deno run -A build.ts           # build what is missing
 * deno run -A build.ts --force   # build again
 * deno run -A build.ts --emulated # also the CUDA library's kernels, for tests on the CPU
 * ```
 * @module
 */
import { ensureBlas, type FoundBlas } from "./ffi/blas.ts";
import { type Compiler, findCompiler, gitHash, inParallel, run } from "./ffi/build/command.ts";
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
import { writeSources } from "./ffi/build/units.ts";
import { FLAGS, type Level, LEVELS, LINUX_LINK_FLAGS, readKernelSources, sha256 } from "./ffi/sources.ts";
import { NativeLibraryError } from "./lib/errors.ts";

export {
  buildEmulated,
  cacheDir,
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

if (import.meta.main) {
  const unknown = Deno.args.find((arg) => !["--force", "--emulated"].includes(arg));
  if (unknown !== undefined) {
    console.error(`Cannot use "${unknown}": expected --force, --emulated or nothing`);
    Deno.exit(2);
  }
  try {
    const options = {
      force: Deno.args.includes("--force"),
      onProgress: (message: string) => console.error(message),
    };
    const { path, manifest, cached } = await buildCpu(options);
    console.log(`${cached ? "found" : "built"} ${path} (${manifest.levels.join(", ")})`);
    if (manifest.warnings !== "") console.error(manifest.warnings);
    const blas = await ensureBlas(options);
    console.log(`matrix products: ${blas.path ?? "built-in"} (${blas.reason})`);
    if (Deno.args.includes("--emulated")) {
      const emulated = await buildEmulated(options);
      console.log(`${emulated.cached ? "found" : "built"} ${emulated.path}`);
      if (emulated.warnings !== "") console.error(emulated.warnings);
    }
  } catch (error) {
    if (!(error instanceof NativeLibraryError)) throw error;
    console.error(error.message);
    Deno.exit(1);
  }
}
