/** Where built libraries lie on this machine, and what is noted beside each. */
import { NativeLibraryError } from "../lib/errors.ts";
import { sourceKey } from "./sources.ts";

/** What `build.ts` notes of a library it built. */
export interface BuildManifest {
  /** ABI version, `TKF_ABI_VERSION`. */
  readonly abi: number;
  /** Commit of the sources, where they lie in a git checkout; with "-dirty" where kernels/ had changes. */
  readonly git: string | null;
  /** First line that the compiler says of itself. */
  readonly compiler: string;
  /** Compiler flags common to all levels. */
  readonly flags: readonly string[];
  /** Instruction-set levels built in, by the names that `--level` takes. */
  readonly levels: readonly string[];
  /** File name of the library, in the same folder. */
  readonly library: string;
  /** SHA-256 of the library. */
  readonly sha256: string;
  /** What the compiler warned of; "" where nothing. */
  readonly warnings: string;
  /** Time that the build took. */
  readonly buildMs: number;
}

/** End of a shared library's name on this system. */
export const LIBRARY_SUFFIX: string = Deno.build.os === "darwin" ? "dylib" : "so";

/**
 * Folder of built libraries: `TOKENFILTER_CACHE`, else `tokenfilter` in the user's cache folder.
 *
 * @throws {NativeLibraryError} If there is neither that variable nor a home.
 */
export function cacheDir(): string {
  const own = Deno.env.get("TOKENFILTER_CACHE");
  if (own) return own;
  const home = Deno.env.get("HOME");
  const user = Deno.env.get("XDG_CACHE_HOME") || (home ? `${home}/.cache` : undefined);
  if (!user) {
    throw new NativeLibraryError(
      "Cannot choose a cache folder: found no HOME, expected TOKENFILTER_CACHE or HOME to be set",
    );
  }
  return `${user}/tokenfilter`;
}

/**
 * Makes the folder of built libraries, and sees whether it takes files: before anything long is begun.
 *
 * @throws {NativeLibraryError} If it does not.
 */
export async function prepareCacheDir(): Promise<void> {
  const folder = cacheDir();
  try {
    await Deno.mkdir(folder, { recursive: true });
    await Deno.remove(await Deno.makeTempFile({ dir: folder, prefix: ".tokenfilter-" }));
  } catch (error) {
    if (!(error instanceof Error) || error instanceof Deno.errors.NotCapable) throw error;
    throw new NativeLibraryError(
      `Cannot write to the cache folder "${folder}": ${error.message.replace(/ \(os error \d+\).*/, "")}; ` +
        "set TOKENFILTER_CACHE to another folder",
      { cause: error },
    );
  }
}

/** Whether an error of the file system says that a file of the cache is not there. */
export function isMissing(error: unknown): boolean {
  return error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory;
}

/** Path of the manifest of the CPU library that belongs to the present sources (`texts` where already read). */
export async function manifestPath(texts?: Map<string, string>): Promise<string> {
  return `${cacheDir()}/cpu-${await sourceKey(texts)}-${Deno.build.os}-${Deno.build.arch}.json`;
}

/** Writes a file so that readers see the old one, the new one or none, never a part. */
export async function writeAtomically(path: string, data: string | Uint8Array): Promise<void> {
  const temporary = `${path}.${Deno.pid}.${crypto.randomUUID().slice(0, 8)}.tmp`;
  try {
    await (typeof data === "string" ? Deno.writeTextFile(temporary, data) : Deno.writeFile(temporary, data));
    await Deno.rename(temporary, path);
  } catch (error) {
    await Deno.remove(temporary).catch(() => {});
    throw error;
  }
}
