/** What the cache holds of built libraries, and what is noted next to each. */
import { cacheDir, isMissing } from "../lib/cache.ts";
import { sha256 } from "../lib/sha256.ts";

/** @internal What a build notes of a library. */
export interface LibraryManifest {
  /** ABI version, `TKF_ABI_VERSION`. */
  readonly abi: number;
  /** Commit of the sources, where they lie in a git checkout; with "-dirty" where kernels/ had changes. */
  readonly git: string | null;
  /** First line that the C++ compiler says of itself. */
  readonly compiler: string;
  /** Compiler flags common to all files. */
  readonly flags: readonly string[];
  /** File name of the library, in the same folder. */
  readonly library: string;
  /** SHA-256 of the library. */
  readonly sha256: string;
  /** Time that the build took. */
  readonly buildMs: number;
}

/** @internal What a build notes of the CPU library. */
export interface CpuManifest extends LibraryManifest {
  /** Instruction-set levels built in, by the names that `openCpu` takes. */
  readonly levels: readonly string[];
  /** What the compiler warned of; "" where nothing. */
  readonly warnings: string;
}

/** Names a build of the CPU library with every level of the architecture, where others are named by their one level. */
export const ALL_LEVELS = "all";

/** End of a shared library's name on this system. */
export const LIBRARY_SUFFIX: string = Deno.build.os === "darwin" ? "dylib" : "so";

/**
 * Path of a build's manifest.
 *
 * @param key Of the sources, as `sourceKey` gives it.
 * @param level The CPU library's: a level's name or {@linkcode ALL_LEVELS}.
 */
export function manifestPath(library: "cpu" | "cuda", key: string, level: string = ALL_LEVELS): string {
  const part = library === "cpu" ? `cpu-${level}` : library;
  return `${cacheDir()}/${part}-${key}-${Deno.build.os}-${Deno.build.arch}.json`;
}

/** What the cache holds for a manifest: its library's path, and whether that is whole; undefined: no such manifest. */
export async function readCache<Manifest extends LibraryManifest>(
  noted: string,
): Promise<{ path: string; manifest: Manifest; found: string } | undefined> {
  let manifest: Manifest;
  try {
    manifest = JSON.parse(await Deno.readTextFile(noted));
  } catch (error) {
    if (isMissing(error) || error instanceof SyntaxError) return undefined;
    throw error;
  }
  const path = `${cacheDir()}/${manifest.library}`;
  try {
    return { path, manifest, found: await sha256(await Deno.readFile(path)) };
  } catch (error) {
    if (isMissing(error)) return { path, manifest, found: "no file" };
    throw error;
  }
}
