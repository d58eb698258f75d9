/**
 * Prebuilt CPU libraries for the systems of a release, by one pinned compiler that carries the headers of old systems and a
 * static C++ library: the same bytes on every machine.
 */
import type { Compiler } from "../../../ffi/build/command.ts";
import { compileCpu, type Target } from "../../../ffi/build/cpu.ts";
import { abiOf, LEVELS, readSources } from "../../../ffi/library/sources.ts";
import { cacheDir } from "../../../lib/cache.ts";
import { UsageError } from "../../../lib/errors.ts";
import type { PinnedPackage } from "../../../lib/pip.ts";
import { fetchProgram } from "../machine/program.ts";

/** zig for x86-64 Linux. Its `c++` is clang with libc++. */
const PINNED_ZIG = {
  name: "ziglang",
  version: "0.15.2",
  sha256: "806316453d1ede7174ed3fefb8e5348154629089c3bb5fe812dfd0e172fac130",
} as const satisfies PinnedPackage;

/** A platform of npm. */
export interface Platform extends Target {
  /** zig's name of it, with the oldest system that the library runs on. */
  readonly triple: string;
  /** Flags of the compiler besides the usual ones. */
  readonly flags?: readonly string[];
  /** Whether tests run its library. One that no test runs is built on request only. */
  readonly isTried: boolean;
}

export const PLATFORMS: Readonly<Record<string, Platform>> = {
  "linux-x64": {
    ...{ os: "linux", arch: "x86_64", triple: "x86_64-linux-gnu.2.17", isTried: true },
    flags: ["-mevex512"], // clang 20 switches 512-bit registers on with AVX-512, zig's list of features does not
  },
  "linux-arm64": { os: "linux", arch: "aarch64", triple: "aarch64-linux-gnu.2.17", isTried: false },
  "darwin-arm64": {
    ...{ os: "darwin", arch: "aarch64", triple: "aarch64-macos.11.0", isTried: false },
    linkFlags: ["-Wl,-install_name,@rpath/libtokenfilter_cpu.dylib"],
  },
};

/** Platforms by name, separated by commas. @throws {UsageError} If there is none of a name. */
export function readPlatforms(names: string | undefined): string[] {
  const known = Object.keys(PLATFORMS);
  if (names === undefined) return known.filter((name) => PLATFORMS[name]!.isTried);
  const asked = names.split(","), wrong = asked.find((name) => !known.includes(name));
  if (wrong === undefined) return asked;
  throw new UsageError(`Cannot build for "${wrong}": expected some of ${known.join(", ")}`);
}

/** zig from the cache, where pip has put it. @throws {UsageError} If pip cannot fetch it. */
export async function ensureZig(onProgress: (message: string) => void): Promise<string> {
  const found = await fetchProgram(PINNED_ZIG, "ziglang/zig", onProgress, "version");
  if (found.path !== undefined) return found.path;
  throw new UsageError(`Cannot fetch zig: ${found.reason} (expected x86-64 Linux)`);
}

/** zig as a compiler for a platform; `language` is `c++` or `cc`. */
export function zigFor(platform: Platform, zig: string, language = "c++"): Compiler {
  // It keeps compiled system libraries next to the project's other files.
  const own = [`ZIG_GLOBAL_CACHE_DIR=${cacheDir()}/zig`, zig, language, "-target", platform.triple, "-g0"];
  own.push(...platform.flags ?? []);
  return { command: "env", args: own, version: `zig ${PINNED_ZIG.version} for ${platform.triple}` };
}

/** A library for a platform. */
export interface NativeLibrary {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly abi: number;
  readonly levels: readonly string[];
  readonly compiler: string;
}

/**
 * Builds the library of a platform with every level. Objects that did not change are not compiled again.
 *
 * @throws {NativeLibraryError} If the compiler fails; the message contains its output.
 */
export async function buildNative(
  platform: Platform,
  zig: string,
  onProgress?: (message: string) => void,
): Promise<NativeLibrary> {
  const compiler = zigFor(platform, zig), levels = LEVELS[platform.arch]!;
  // Without a level of optimization, zig adds its runtime of sanitizers.
  const target = { ...platform, linkFlags: [...platform.linkFlags ?? [], "-O3", "-Wl,-s"] };
  const work = await Deno.makeTempDir({ prefix: "tokenfilter-native-" });
  try {
    const sources = await readSources("cpu"), abi = abiOf(sources.texts);
    const { bytes } = await compileCpu(compiler, target, levels, sources, work, { onProgress });
    return { bytes, abi, levels: levels.map(({ name }) => name), compiler: compiler.version };
  } finally {
    await Deno.remove(work, { recursive: true });
  }
}
