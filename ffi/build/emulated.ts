/** Builds the CUDA library for the CPU: the same sources, on the emulator of `kernels/testing/emulator`. For tests. */
import { NativeLibraryError } from "../../lib/errors.ts";
import { cacheDir, isMissing, LIBRARY_SUFFIX, prepareCacheDir, writeAtomically } from "../cache.ts";
import { LINUX_LINK_FLAGS, sha256 } from "../sources.ts";
import { findCompiler, run } from "./command.ts";
import { buildObjects } from "./objects.ts";
import { readCudaSources, type Sources, unitKey, unitsOf } from "./units.ts";

/** Kernels read vectors through pointers of other types, as device compilers allow: no strict aliasing. */
const EMULATED_FLAGS: readonly string[] = [
  "-DTKF_EMULATE",
  "-std=c++17",
  "-O2",
  "-fPIC",
  "-fno-strict-aliasing",
  "-fno-math-errno",
  "-fvisibility=hidden",
  "-pthread",
  "-Wall",
  "-Wextra",
  "-Wno-unknown-pragmas",
  "-Wno-psabi", // tensor maps are parameters aligned to 64 bytes
];

/** Options of {@linkcode buildEmulated}. */
export interface EmulatedOptions {
  /** Compile everything again. */
  readonly force?: boolean;
  /** Changes the sources first: how tests break a kernel on purpose. */
  readonly patch?: (sources: Map<string, string>) => void;
  /** Is told what goes on, in short lines, only where something has to be done. */
  readonly onProgress?: (message: string) => void;
}

/** An emulated library that is ready to load. */
export interface EmulatedLibrary {
  /** Its path. */
  readonly path: string;
  /** Whether it was there already. */
  readonly cached: boolean;
  /** What the compiler warned of; "" where nothing. */
  readonly warnings: string;
}

/**
 * Builds `libtokenfilter_emulated`, unless the cache holds the build of these very sources, compiler and flags. Files
 * that did not change are not compiled again. Where `TOKENFILTER_EMULATED` names a library, it is that one.
 *
 * @throws {NativeLibraryError} If there is no compiler, or it fails (the message holds what it said), or the cache
 * folder takes no files.
 */
export async function buildEmulated(options: EmulatedOptions = {}): Promise<EmulatedLibrary> {
  const { force = false, patch, onProgress = () => {} } = options;
  const given = Deno.env.get("TOKENFILTER_EMULATED");
  if (given && patch === undefined) return { path: given, cached: true, warnings: "" };
  const compiler = await findCompiler();
  await prepareCacheDir();
  const sources = await readCudaSources();
  patch?.(sources);
  const flags = [...EMULATED_FLAGS, ...compiler.args]; // CXX has the last word
  const key = { compiler: compiler.command, version: compiler.version, flags };
  const name = await libraryName(sources, key);
  const path = `${cacheDir()}/${name}`;
  if (!force) {
    const warnings = await noted(`${path}.txt`);
    if (warnings !== undefined) return { path, cached: true, warnings };
  }
  const work = await Deno.makeTempDir({ prefix: "tokenfilter-build-" });
  try {
    const objects = await buildObjects(
      sources,
      unitsOf(sources, "emulated"),
      {
        compiler: compiler.version,
        key,
        command: compiler.command,
        args: (unit) => [...flags, "-x", "c++", "-c", unit],
      },
      work,
      { force, onProgress },
    );
    await Deno.writeTextFile(`${work}/exports`, "{ global: tkf_*; local: *; };\n");
    const linked = await run(compiler.command, [
      ...compiler.args,
      "-shared",
      "-pthread",
      ...objects.map(({ path }) => path),
      ...(Deno.build.os === "linux" ? LINUX_LINK_FLAGS : []),
      "-o",
      "library",
    ], { cwd: work });
    if (!linked.success) {
      throw new NativeLibraryError(
        `Cannot build the native library: the compiler failed on the emulated library:\n${linked.stderr}`,
      );
    }
    const warnings = objects.map(({ said }) => said).join("") + linked.stderr;
    await writeAtomically(path, await Deno.readFile(`${work}/library`));
    await writeAtomically(`${path}.txt`, warnings);
    return { path, cached: false, warnings };
  } finally {
    await Deno.remove(work, { recursive: true });
  }
}

/** Named by all that decides its content, so that a library in use is never overwritten by another. */
async function libraryName(sources: Sources, key: unknown): Promise<string> {
  const units = unitsOf(sources, "emulated");
  const keys = await Promise.all(units.map((unit) => unitKey(sources, unit, key)));
  const digest = await sha256(JSON.stringify([keys, LINUX_LINK_FLAGS]));
  return `libtokenfilter_emulated-${digest.slice(0, 16)}.${LIBRARY_SUFFIX}`;
}

async function noted(path: string): Promise<string | undefined> {
  try {
    return await Deno.readTextFile(path);
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}
