/** Fetches the pinned OpenBLAS from the Python package index that pip is set up with. */
import { findBlas, type FoundBlas, PINNED_BLAS, pinnedPath } from "../blas.ts";
import { buildCommand } from "../library/library.ts";
import { LEVELS } from "../library/sources.ts";
import { type BuildOptions, findCompiler } from "./command.ts";
import { bestLevel } from "./cpu.ts";
import { fetchFile } from "./wheel.ts";

export { PINNED_BLAS };

/**
 * The BLAS to use, fetched where there is none yet. A failed fetch is no error: the result has the reason, and the
 * system's OpenBLAS or the built-in kernel serves.
 *
 * @param options `level` is the instruction-set level that it is for: where the library's own products are faster, none
 * is fetched. After a failed fetch, `pauseMs` must pass before the next try; by default 0.
 */
export function ensureBlas(
  options: Pick<BuildOptions, "onProgress"> & {
    readonly level?: string | undefined;
    readonly pauseMs?: number;
  } = {},
): Promise<FoundBlas> {
  const { level, ...how } = options;
  const file = { ...PINNED_BLAS, title: "OpenBLAS", again: buildCommand() };
  return findBlas(() => fetchFile(file, pinnedPath(), how), level);
}

/** The level that a build for this machine has by default; undefined where there is no compiler. */
export async function findLevel(): Promise<string | undefined> {
  const compiler = await findCompiler().catch(() => undefined), levels = LEVELS[Deno.build.arch];
  return compiler && levels && await bestLevel(compiler, levels);
}
