/** Folders on this machine for files that the project has built or downloaded. */
import { UsageError } from "./errors.ts";

/** The folder of all caches of the user; undefined where there is no home. */
export function userCacheDir(): string | undefined {
  const home = Deno.env.get("HOME");
  return Deno.env.get("XDG_CACHE_HOME") || (home ? `${home}/.cache` : undefined);
}

/**
 * The cache folder: `TOKENFILTER_CACHE`, else `tokenfilter` in the user's cache folder.
 *
 * @throws {UsageError} If there is neither that variable nor a home.
 */
export function cacheDir(): string {
  const own = Deno.env.get("TOKENFILTER_CACHE");
  if (own) return own;
  const user = userCacheDir();
  if (user) return `${user}/tokenfilter`;
  throw new UsageError(
    "Cannot choose a cache folder: found no HOME, expected TOKENFILTER_CACHE or HOME to be set",
  );
}

/** Permissions of a cache folder that is made: it holds native code that runs with this user's rights. */
export const OWN_FOLDER = 0o700;

/** Permissions of files of native code, at most: others may read them. */
export const OTHERS_READ = 0o644;

/**
 * Makes a folder of a cache, and checks that it takes files: before anything long is begun.
 *
 * @param variable The environment variable that sets the folder, to be named in the error.
 * @throws {UsageError} If it does not.
 */
export async function prepareCacheDir(folder = cacheDir(), variable = "TOKENFILTER_CACHE"): Promise<void> {
  try {
    const mode = variable === "TOKENFILTER_CACHE" ? OWN_FOLDER : 0o777;
    await Deno.mkdir(folder, { recursive: true, mode });
    await Deno.remove(await Deno.makeTempFile({ dir: folder, prefix: ".tokenfilter-" }));
  } catch (error) {
    if (!(error instanceof Error) || error instanceof Deno.errors.NotCapable) throw error;
    throw new UsageError(
      `Cannot write to the cache folder "${folder}": ${error.message.replace(/ \(os error \d+\).*/, "")}; ` +
        `set ${variable} to another folder`,
      { cause: error },
    );
  }
}

/** Whether an error of the file system means that a file does not exist. */
export function isMissing(error: unknown): boolean {
  return error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory;
}

/**
 * The result of reading; undefined where the file does not exist.
 *
 * @throws What the reading throws, but for a missing file.
 */
export async function ifThere<T>(reading: Promise<T>): Promise<T | undefined> {
  try {
    return await reading;
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}

/**
 * Writes a file so that readers see the old one, the new one or none, never a part.
 *
 * @param mode Permissions at most; by default those that the process gives to files.
 * @throws {Error} What the system throws; the file is then as it was.
 */
export async function writeAtomically(path: string, data: string | Uint8Array, mode?: number): Promise<void> {
  const temporary = `${path}.${Deno.pid}.${crypto.randomUUID().slice(0, 8)}.tmp`;
  const bytes = typeof data === "string" ? new TextEncoder().encode(data) : data;
  try {
    await Deno.writeFile(temporary, bytes, mode === undefined ? {} : { mode });
    await Deno.rename(temporary, path);
  } catch (error) {
    await Deno.remove(temporary).catch(() => {});
    throw error;
  }
}
