/** Builds the CUDA library for the CPU: the same sources, on the emulator of `kernels/testing/emulator`. For tests. */
import { cacheDir, ifThere, prepareCacheDir, writeAtomically } from "../../lib/cache.ts";
import { LIBRARY_SUFFIX } from "../cache.ts";
import { sha256 } from "../../lib/sha256.ts";
import { type LibrarySources, LINUX_LINK_FLAGS, readSources, type Sources } from "../library/sources.ts";
import { type BuildOptions, findCompiler, link } from "./command.ts";
import { buildObjects, type BuiltObject } from "./objects.ts";
import { unitKey } from "./objects.ts";

/** Translation units of the emulator itself. */
export const EMULATOR_UNITS: readonly string[] = [
  "async",
  "launch",
  "machine",
  "runtime",
  "tensor_map",
  "warp",
  "wgmma",
].map((name) => `testing/emulator/${name}.cpp`);
/** Reads the sources of the emulated library. */
export const readEmulated = (): Promise<LibrarySources> => readSources("cuda", EMULATOR_UNITS);

/** Kernels read vectors through pointers of other types, as device compilers allow: no strict aliasing. */
const EMULATED_FLAGS: readonly string[] = [
  "-DTKF_EMULATE",
  "-std=c++17",
  "-O2",
  "-fPIC",
  "-fno-strict-aliasing",
  "-fno-math-errno",
  "-ffp-contract=off", // the same results on every machine
  "-fvisibility=hidden",
  "-pthread",
  "-Wall",
  "-Wextra",
  "-Wno-unknown-pragmas",
  "-Wno-psabi", // tensor maps are parameters aligned to 64 bytes
];

/** Instructions that make the emulator faster, where this machine has them. */
async function machineFlags(): Promise<readonly string[]> {
  if (Deno.build.arch !== "x86_64") return [];
  const [, has = ""] = (await ifThere(Deno.readTextFile("/proc/cpuinfo")))?.match(/^flags\s*:(.*)$/m) ?? [];
  return ["avx2", "fma"].every((name) => has.split(" ").includes(name)) ? ["-mavx2", "-mfma"] : [];
}

/** Options of {@linkcode buildEmulated}. */
export interface EmulatedOptions extends BuildOptions {
  /** Changes the sources first: how tests break a kernel on purpose. */
  readonly patch?: (sources: Map<string, string>) => void;
  /** Units that see the change; all where left out. */
  readonly patched?: (unit: string) => boolean;
}

/** An emulated library that is ready to load. */
export interface EmulatedLibrary {
  /** Its path. */
  readonly path: string;
  /** Whether it was there already. */
  readonly cached: boolean;
  /** The compiler's warnings; "" if there are none. */
  readonly warnings: string;
}

/**
 * Builds `libtokenfilter_emulated`, unless the cache holds the build of these very sources, compiler and flags. Files
 * that did not change are not compiled again. Where `TOKENFILTER_EMULATED` names a library, it is that one.
 *
 * @throws {NativeLibraryError} If there is no compiler, or it fails (the message contains its output).
 */
export async function buildEmulated(options: EmulatedOptions = {}): Promise<EmulatedLibrary> {
  const { force = false, patch, patched = () => true, onProgress = () => {} } = options;
  const given = Deno.env.get("TOKENFILTER_EMULATED");
  if (given && patch === undefined) return { path: given, cached: true, warnings: "" };
  const compiler = await findCompiler();
  await prepareCacheDir();
  const { units, texts } = await readEmulated();
  const changed = new Map(texts);
  patch?.(changed);
  const common = [...EMULATED_FLAGS, ...await machineFlags()];
  const partOf = (texts: Sources, units: readonly string[], own: readonly string[] = []) => {
    const flags = [...common, ...own, ...compiler.args]; // CXX has the last word
    return { texts, units, flags, key: { compiler: compiler.command, version: compiler.version, flags } };
  };
  const parts = [
    // Changed files are compiled to be run once.
    partOf(changed, units.filter(patched), patch && ["-O1"]),
    partOf(texts, units.filter((unit) => !patched(unit))),
  ];
  const name = await libraryName(parts);
  const path = `${cacheDir()}/${name}`;
  if (!force) {
    const warnings = await ifThere(Deno.readTextFile(`${path}.txt`));
    if (warnings !== undefined) return { path, cached: true, warnings };
  }
  const work = await Deno.makeTempDir({ prefix: "tokenfilter-build-" });
  try {
    const objects: BuiltObject[] = [];
    for (const { texts, units, flags, key } of parts) {
      const recipe = { title: `the emulator with ${compiler.version}`, key, command: compiler.command };
      const jobs = units.map((unit) => ({ unit, args: [...flags, "-x", "c++", "-c", unit] }));
      objects.push(...await buildObjects(texts, jobs, recipe, work, { force, onProgress }));
    }
    const { bytes, output } = await link("the emulated library", compiler.command, [
      ...compiler.args,
      "-shared",
      "-pthread",
      ...objects.map(({ path }) => path),
      ...(Deno.build.os === "linux" ? LINUX_LINK_FLAGS : []),
    ], work);
    const warnings = objects.map((object) => object.output).join("") + output;
    await writeAtomically(path, bytes);
    await writeAtomically(`${path}.txt`, warnings);
    return { path, cached: false, warnings };
  } finally {
    await Deno.remove(work, { recursive: true });
  }
}

/** Named by all that decides its content, so that a library in use is never overwritten by another. */
async function libraryName(
  parts: readonly { readonly units: readonly string[]; readonly texts: Sources; readonly key: unknown }[],
): Promise<string> {
  const keys = await Promise.all(
    parts.flatMap(({ units, texts, key }) => units.map((unit) => unitKey(texts, unit, key))),
  );
  const digest = await sha256(JSON.stringify([keys, LINUX_LINK_FLAGS]));
  return `libtokenfilter_emulated-${digest.slice(0, 16)}.${LIBRARY_SUFFIX}`;
}
