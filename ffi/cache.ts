/** Built libraries in the cache, and the manifest of each. */
import { cacheDir, ifThere, isMissing } from "../lib/cache.ts";
import { sha256 } from "../lib/sha256.ts";
import { expectOwnFiles } from "./library/own_files.ts";

/** @internal Notes of a build about a library. */
export interface LibraryManifest {
  /** ABI version, `TKF_ABI_VERSION`. */
  readonly abi: number;
  /** Commit of the sources, if they are in a git checkout; with "-dirty" if kernels/ had changes. */
  readonly git: string | null;
  /** First line of the version that the C++ compiler prints. */
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

/** @internal Notes of a build about the CPU library. */
export interface CpuManifest extends LibraryManifest {
  /** Instruction-set levels built in, by the names that `openCpu` takes. */
  readonly levels: readonly string[];
  /** The compiler's warnings; "" if there are none. */
  readonly warnings: string;
}

/** Names a build of the CPU library with every level of the architecture, where others are named by their one level. */
export const ALL_LEVELS = "all";

/** End of a shared library's name on this system. */
export const LIBRARY_SUFFIX: string = Deno.build.os === "darwin" ? "dylib" : "so";

/**
 * Path of a build's manifest.
 *
 * @param key Digest of the sources, as `sourceKey` gives it.
 * @param level The CPU library's: a level's name or {@linkcode ALL_LEVELS}.
 */
export function manifestPath(library: "cpu" | "cuda", key: string, level: string = ALL_LEVELS): string {
  const part = library === "cpu" ? `cpu-${level}` : library;
  return `${cacheDir()}/${part}-${key}-${Deno.build.os}-${Deno.build.arch}.json`;
}

/** Names that builds give to libraries: none leads out of the folder. */
const LIBRARY_NAME = /^libtokenfilter_(cpu|cuda)-[0-9a-f]{16}\.(so|dylib)$/;

/**
 * A manifest in the cache with its library's path; `trouble` is what was found instead of what it notes. Undefined if
 * there is none.
 *
 * @throws {NativeLibraryError} If folder, manifest or library are, or may be, another user's.
 */
export async function readCache<Manifest extends LibraryManifest>(
  noted: string,
): Promise<{ path: string; manifest: Manifest; trouble?: string } | undefined> {
  let manifest: Manifest;
  try {
    manifest = JSON.parse(await Deno.readTextFile(noted));
  } catch (error) {
    if (isMissing(error) || error instanceof SyntaxError) return undefined;
    throw error;
  }
  await expectOwnFiles([cacheDir(), noted]);
  const { library, sha256: expected } = Object(manifest) as Manifest;
  if (!LIBRARY_NAME.test(library)) {
    const trouble = `found library ${
      JSON.stringify(library)
    }, expected a name such as libtokenfilter_cpu-….so`;
    return { path: noted, manifest, trouble };
  }
  const path = `${cacheDir()}/${library}`;
  await expectOwnFiles([path]);
  const bytes = await ifThere(Deno.readFile(path)), found = bytes && await sha256(bytes);
  if (found === expected) return { path, manifest };
  return { path, manifest, trouble: `found ${found ?? "no file"}, expected SHA-256 ${expected}` };
}
