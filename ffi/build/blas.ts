/** Fetches the pinned OpenBLAS from the Python package index that pip is set up with. */
import { cacheDir, ifThere, prepareCacheDir, writeAtomically } from "../../lib/cache.ts";
import { findBlas, type FoundBlas, PINNED_BLAS, pinnedPath } from "../blas.ts";
import { buildCommand } from "../library.ts";
import { reasonOf, requirementOf, requirePackages } from "../../lib/pip.ts";
import { sha256 } from "../../lib/sha256.ts";
import { LEVELS } from "../sources.ts";
import { type BuildOptions, findCompiler, run } from "./command.ts";
import { bestLevel } from "./cpu.ts";

export { PINNED_BLAS };

/**
 * The BLAS to use, fetched where there is none yet. A failed fetch is no error: the result has the reason, and the
 * system's OpenBLAS or the built-in kernel serves.
 *
 * @param options `level` is the instruction-set level that it is for: where the library's own products are faster, none
 * is fetched. After a failed fetch, `pauseMs` must pass before the next try; by default 0. Some networks drop all
 * packets, and each try then waits.
 */
export function ensureBlas(
  options: Pick<BuildOptions, "onProgress"> & {
    readonly level?: string | undefined;
    readonly pauseMs?: number;
  } = {},
): Promise<FoundBlas> {
  const { level, pauseMs = 0, onProgress = () => {} } = options;
  return findBlas(async () => {
    const note = pauseMs > 0 ? `${cacheDir()}/blas-not-fetched` : undefined;
    const last = note && await ifThere(Deno.stat(note));
    if (last && Date.now() - last.mtime!.getTime() < pauseMs) {
      return `pip: ${await Deno.readTextFile(note)} (${buildCommand()} tries again)`;
    }
    onProgress(`fetching ${requirementOf(PINNED_BLAS.package)} with pip`);
    const trouble = await fetchPinned();
    if (trouble === undefined) return undefined;
    onProgress(`no OpenBLAS from pip: ${trouble}`);
    if (note) await writeAtomically(note, trouble).catch(() => {}); // else it is tried again
    return `pip: ${trouble}`;
  }, level);
}

/** The level that a build for this machine has by default; undefined where there is no compiler. */
export async function findLevel(): Promise<string | undefined> {
  const compiler = await findCompiler().catch(() => undefined), levels = LEVELS[Deno.build.arch];
  return compiler && levels && await bestLevel(compiler, levels);
}

/** Downloads and unpacks the pinned wheel. @returns The reason if it fails, or undefined. */
async function fetchPinned(): Promise<string | undefined> {
  const work = await Deno.makeTempDir({ prefix: "tokenfilter-blas-" });
  try {
    await prepareCacheDir();
    const pip = ["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"];
    const limits = ["--retries", "1", "--timeout", "10", "--only-binary", ":all:"];
    const trouble = await python([
      ...pip,
      ...limits,
      "--dest",
      work,
      ...await requirePackages([PINNED_BLAS.package], work),
    ]);
    if (trouble !== undefined) return trouble;
    const wheel = Array.from(Deno.readDirSync(work)).find(({ name }) => name.endsWith(".whl"));
    if (wheel === undefined) return "found no wheel";
    const unpacked = await python(["-m", "zipfile", "-e", `${work}/${wheel.name}`, `${work}/wheel`]);
    if (unpacked !== undefined) return unpacked;
    const library = await Deno.readFile(`${work}/wheel/${PINNED_BLAS.member}`);
    const digest = await sha256(library);
    if (digest !== PINNED_BLAS.sha256) return `found SHA-256 ${digest}, expected ${PINNED_BLAS.sha256}`;
    await writeAtomically(pinnedPath(), library);
    return undefined;
  } catch (error) {
    if (!(error instanceof Error) || error instanceof Deno.errors.NotCapable) throw error;
    return error.message;
  } finally {
    await Deno.remove(work, { recursive: true });
  }
}

/** Runs python3; the last line it complained with, or undefined where all went well. */
async function python(args: readonly string[]): Promise<string | undefined> {
  const { success, stderr } = await run("python3", args);
  return success ? undefined : reasonOf(stderr) ?? "failed";
}
