/** Builds the CPU library: its entry points, and the body of each op for the instruction-set levels asked for. */
import { prepareCacheDir } from "../../lib/cache.ts";
import { NoLibraryError } from "../../lib/errors.ts";
import { ALL_LEVELS, type CpuManifest } from "../cache.ts";
import { findBuild } from "../library/library.ts";
import {
  BODY_FLAGS,
  CPU_LINK_FLAGS,
  ENTRY_FLAGS,
  FLAGS,
  type Level,
  LEVELS,
  type LibrarySources,
  readSources,
  SHARED_FLAGS,
  unitFlags,
} from "../library/sources.ts";
import { buildAlone } from "./alone.ts";
import { type BuildOptions, type Compiler, findCompiler, link, run } from "./command.ts";
import { buildObjects, type ObjectJob } from "./objects.ts";
import { type BuiltLibrary, storeLibrary } from "./store.ts";

/** The unit with the entry points: compiled once, for the lowest level. All others are compiled for each level. */
const ENTRIES = "common/entries.cpp";

/** Units that take longer than others, and how many times as long: they hold many instances of templates. */
const COSTS: readonly (readonly [RegExp, number])[] = [
  [/^linear\/blocks_of_\d+_cpu\.cpp$/, 15],
  [/^(linear\/dense|filtered_attention\/cache_\w+)_cpu\.cpp$/, 8],
  [/^(common\/entries|kv_filter_scan\/kv_filter_scan_cpu)\.cpp$/, 4],
];
const costOf = (unit: string): number => COSTS.find(([pattern]) => pattern.test(unit))?.[1] ?? 1;

/** @internal Options of {@linkcode buildCpu}. */
export interface CpuBuildOptions extends BuildOptions {
  /** An instruction-set level by name (`base`, `avx2`, `avx512`), or `all`; the best of this machine by default. */
  readonly level?: string | undefined;
}

/**
 * Builds the CPU library, unless the cache holds a build of these very sources, compiler and flags with the level.
 * Objects that did not change are not compiled again.
 *
 * @throws {RangeError} If the level is not known.
 * @throws {NativeLibraryError} If there is no compiler, or it fails (the message contains its output), or the cache is, or
 * may be, another user's.
 * @throws {UsageError} If the cache folder takes no files.
 *
 * @example
 * ```ts ignore
 * const { path, cached } = await buildCpu({ onProgress: console.error });
 * ```
 */
export async function buildCpu(options: CpuBuildOptions = {}): Promise<BuiltLibrary<CpuManifest>> {
  const { force = false, level, onProgress = () => {} } = options;
  const known = LEVELS[Deno.build.arch];
  if (known === undefined || Deno.build.os === "windows") {
    throw new NoLibraryError(
      `Cannot build the native library: found ${Deno.build.os} on ${Deno.build.arch}, ` +
        "expected Linux or macOS on x86_64 or aarch64",
    );
  }
  const names = [...known.map(({ name }) => name), ALL_LEVELS];
  if (level !== undefined && !names.includes(level)) {
    throw new RangeError(
      `Cannot build the native library: found level "${level}", expected one of ${names.join(", ")}`,
    );
  }
  /** The build in the cache, if the compiler has not changed; a machine without one can still run a build. */
  const find = async () => {
    const cached = force ? undefined : await findBuild<CpuManifest>("cpu", { level, wantsBest: true });
    const compiler = cached && await findCompiler().catch(() => undefined);
    return compiler === undefined || compiler.version === cached!.manifest.compiler ? cached : undefined;
  };
  const cached = await find();
  if (cached !== undefined) return cached;
  const compiler = await findCompiler();
  await prepareCacheDir(); // before anything long is begun
  const chosen = level ?? await bestLevel(compiler, known);
  const levels = level === ALL_LEVELS ? known : known.filter(({ name }) => name === chosen);
  const sources = await readSources("cpu"), { texts } = sources;
  const build = (work: string) =>
    storeLibrary("cpu", texts, compiler, [...FLAGS, ...SHARED_FLAGS, ...BODY_FLAGS], async () => {
      const { bytes, warnings } = await compileCpu(compiler, Deno.build, levels, sources, work, {
        force,
        onProgress,
      });
      return { bytes, more: { levels: levels.map(({ name }) => name), warnings } };
    }, chosen);
  // Another process may have built it meanwhile.
  return await buildAlone(async (work) => await find() ?? await build(work), { onProgress });
}

/** The best level of this machine, by the compiler's macros; the lowest one if they do not show it. */
export async function bestLevel({ command, args }: Compiler, levels: readonly Level[]): Promise<string> {
  const { stdout } = await run(command, [...args, "-march=native", "-dM", "-E", "-x", "c++", "/dev/null"]);
  const best = levels.findLast(({ macros }) =>
    macros.every((macro) => stdout.includes(`#define ${macro} 1`))
  );
  return (best ?? levels[0]!).name;
}

/** A system that a library is for, by Deno's names. */
export interface Target {
  readonly os: string;
  readonly arch: string;
  /** Flags of the linker besides the usual ones. */
  readonly linkFlags?: readonly string[];
}

/** Compiles the missing objects, as many units at once as there are cores, and links all. */
export async function compileCpu(
  compiler: Compiler,
  { os, arch, linkFlags = [] }: Target,
  levels: readonly Level[],
  { units, texts }: LibrarySources,
  work: string,
  options: BuildOptions,
): Promise<{ bytes: Uint8Array<ArrayBuffer>; warnings: string }> {
  const { command } = compiler, base = LEVELS[arch]![0]!;
  const mask = levels.reduce((sum, { code }) => sum + 2 ** code, 0);
  const isShared = arch !== "wasm32",
    common = [...compiler.args, ...FLAGS, ...(isShared ? SHARED_FLAGS : [])];
  const jobs: ObjectJob[] = [
    ...levels.flatMap(({ name, code, flags }) =>
      units.filter((unit) => unit !== ENTRIES).map((unit) => ({
        unit,
        name: `${unit} for ${name}`,
        cost: costOf(unit),
        args: [...common, ...BODY_FLAGS, ...unitFlags(unit), ...flags, `-DTKF_LEVEL=${code}`, "-c", unit],
      }))
    ),
    {
      unit: ENTRIES,
      cost: costOf(ENTRIES),
      args: [
        ...[...common, ...ENTRY_FLAGS, ...unitFlags(ENTRIES), ...base.flags],
        ...[`-DTKF_LEVELS=${mask}`, "-c", ENTRIES],
      ],
    },
  ];
  const title = `level ${levels.map(({ name }) => name).join(", ")} with ${compiler.version}`;
  const recipe = { title, key: compiler.version, command };
  const objects = await buildObjects(texts, jobs, recipe, work, options);
  const { bytes, output } = await link("the library", command, [
    ...compiler.args,
    ...(isShared ? ["-shared", "-pthread"] : []),
    ...objects.map(({ path }) => path),
    ...(os === "linux" ? CPU_LINK_FLAGS : []),
    ...linkFlags,
  ], work);
  return { bytes, warnings: objects.map((object) => object.output).join("") + output };
}
