/** One build at a time in a cache, in a folder of its own. */
import { cacheDir, prepareCacheDir } from "../../lib/cache.ts";
import { expectOwnFiles } from "../library/own_files.ts";
import type { BuildOptions } from "./command.ts";

/** Beginning of the names of builds' folders. */
const FOLDER = ".build-";

/** Milliseconds until a build that waits for another one says so. */
const QUIET_MS = 1000;

/**
 * Runs a build while no other process builds in this cache. Folders of builds that were killed are removed.
 *
 * @param build Builds in the folder that it is given, which is removed at its end.
 * @throws {UsageError} If the cache folder takes no files.
 * @throws {NativeLibraryError} If it is, or may be, another user's.
 */
export async function buildAlone<T>(
  build: (work: string) => Promise<T>,
  { onProgress = () => {} }: Pick<BuildOptions, "onProgress"> = {},
): Promise<T> {
  await prepareCacheDir();
  const cache = cacheDir();
  await expectOwnFiles([cache, `${cache}/objects`]);
  using held = await Deno.open(`${cache}/build.lock`, { create: true, write: true, mode: 0o600 });
  const waiting = setTimeout(() => onProgress(`waiting for another build in ${cache}`), QUIET_MS);
  await held.lock(true).finally(() => clearTimeout(waiting));
  for (const { name } of await Array.fromAsync(Deno.readDir(cache))) {
    if (name.startsWith(FOLDER)) await Deno.remove(`${cache}/${name}`, { recursive: true });
  }
  const work = await Deno.makeTempDir({ dir: cache, prefix: FOLDER });
  try {
    return await build(work);
  } finally {
    await Deno.remove(work, { recursive: true });
  }
}
