/** Builds the CPU library: one object an instruction-set level, and one with the entry points. */
import { NativeLibraryError } from "../../lib/errors.ts";
import type { LibraryManifest } from "../cache.ts";
import { FLAGS, type Level, LEVELS, LINUX_LINK_FLAGS, readSources } from "../sources.ts";
import { type BuildOptions, type Compiler, findCompiler, inParallel, link, runCompiler } from "./command.ts";
import { type BuiltLibrary, findBuilt, storeLibrary } from "./store.ts";
import { writeSources } from "./units.ts";

/** What a build notes of the CPU library. */
export interface CpuManifest extends LibraryManifest {
  /** Instruction-set levels built in, by the names that `openCpu` takes. */
  readonly levels: readonly string[];
  /** What the compiler warned of; "" where nothing. */
  readonly warnings: string;
}

/**
 * Builds the CPU library, unless the cache holds the build of these very sources, compiler and flags.
 *
 * @throws {NativeLibraryError} If there is no compiler, or it fails (the message holds what it printed).
 * @throws {UsageError} If the cache folder takes no files.
 *
 * @example
 * ```ts ignore
 * const { path, cached } = await buildCpu({ onProgress: console.error });
 * ```
 */
export async function buildCpu(options: BuildOptions = {}): Promise<BuiltLibrary<CpuManifest>> {
  const { force = false, onProgress = () => {} } = options;
  const levels = LEVELS[Deno.build.arch];
  if (levels === undefined || Deno.build.os === "windows") {
    throw new NativeLibraryError(
      `Cannot build the native library: found ${Deno.build.os} on ${Deno.build.arch}, ` +
        "expected Linux or macOS on x86_64 or aarch64",
    );
  }
  const cached = force ? undefined : await findBuilt<CpuManifest>("cpu");
  if (cached !== undefined) {
    const compiler = await findCompiler().catch(() => undefined); // a machine without one can still run a build
    if (compiler === undefined || compiler.version === cached.manifest.compiler) return cached;
  }
  const { texts } = await readSources("cpu");
  return await storeLibrary("cpu", texts, FLAGS, async (compiler, work) => {
    await writeSources(texts, work);
    const { bytes, warnings } = await compile(compiler, levels, work, onProgress);
    return { bytes, more: { levels: levels.map(({ name }) => name), warnings } };
  });
}

/** Compiles every translation unit, as many at once as there are cores, and links them. */
async function compile(
  compiler: Compiler,
  levels: readonly Level[],
  work: string,
  onProgress: (message: string) => void,
): Promise<{ bytes: Uint8Array<ArrayBuffer>; warnings: string }> {
  const units = [
    ...levels.map(({ name, code, flags }) => ({
      name: `level ${name}`,
      args: [...flags, `-DTKF_LEVEL=${code}`, "-c", "common/level.cpp"],
      object: `${name}.o`,
    })),
    { name: "entry points", args: [...levels[0].flags, "-c", "common/entries.cpp"], object: "entries.o" },
  ];
  const { command } = compiler;
  let warnings = "";
  let done = 0;
  onProgress(`compiling the kernels with ${compiler.version}`);
  await inParallel(units, async ({ name, args, object }) => {
    const all = [...compiler.args, ...FLAGS, ...args, "-o", object];
    warnings += await runCompiler(name, command, all, { cwd: work });
    onProgress(`compiled ${name} (${++done} of ${units.length})`);
  });
  const { bytes, output } = await link("the library", command, [
    ...compiler.args,
    "-shared",
    "-pthread",
    ...units.map(({ object }) => object),
    ...(Deno.build.os === "linux" ? LINUX_LINK_FLAGS : []),
  ], work);
  return { bytes, warnings: warnings + output };
}
