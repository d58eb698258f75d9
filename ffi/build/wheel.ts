/** Fetches pinned wheels, or single files of them, from the Python package index that pip is set up with. */
import { cacheDir, ifThere, prepareCacheDir, writeAtomically } from "../../lib/cache.ts";
import {
  installArguments,
  type PinnedPackage,
  reasonOf,
  requirementOf,
  requirePackages,
} from "../../lib/pip.ts";
import { sha256 } from "../../lib/sha256.ts";
import { run } from "./command.ts";

/** A file of a wheel. */
export interface WheelFile {
  /** Its name in messages. */
  readonly title: string;
  readonly package: PinnedPackage;
  /** Its path in the wheel. */
  readonly member: string;
  /** Its digest; by default that of the wheel suffices. */
  readonly sha256?: string;
  /** Size of the wheel in words, where it is large. */
  readonly size?: string;
  /** The command that tries again. */
  readonly again: string;
}

/** How to fetch. */
export interface FetchOptions {
  /** Milliseconds after a failure before the next try; 0 by default. Some networks drop all packets, and each try then waits. */
  readonly pauseMs?: number;
  readonly onProgress?: ((message: string) => void) | undefined;
}

/** Puts a file of a wheel at a path of the cache. @returns The reason if it fails. */
export async function fetchFile(
  file: WheelFile,
  to: string,
  { pauseMs = 0, onProgress = () => {} }: FetchOptions = {},
): Promise<string | undefined> {
  const note = pauseMs > 0 ? `${cacheDir()}/${file.package.name}-not-fetched` : undefined;
  const last = note && await ifThere(Deno.stat(note));
  if (last && Date.now() - last.mtime!.getTime() < pauseMs) {
    return `pip: ${await Deno.readTextFile(note)} (${file.again} tries again)`;
  }
  onProgress(`fetching ${requirementOf(file.package)} with pip${file.size ? `, ${file.size}` : ""}`);
  const trouble = await fetchNow(file, to);
  if (trouble === undefined) return undefined;
  onProgress(`no ${file.title} from pip: ${trouble}`);
  if (note) await writeAtomically(note, trouble).catch(() => {}); // else it is tried again
  return `pip: ${trouble}`;
}

async function fetchNow(file: WheelFile, to: string): Promise<string | undefined> {
  let work: string | undefined;
  try {
    await prepareCacheDir();
    work = await Deno.makeTempDir({ dir: cacheDir(), prefix: ".wheel-" });
    const pip = ["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"];
    const limits = ["--retries", "1", "--timeout", "10", "--only-binary", ":all:"];
    const trouble = await python([
      ...pip,
      ...limits,
      "--dest",
      work,
      ...await requirePackages([file.package], work),
    ]);
    if (trouble !== undefined) return trouble;
    const wheel = Array.from(Deno.readDirSync(work)).find(({ name }) => name.endsWith(".whl"));
    if (wheel === undefined) return "found no wheel";
    const unpacked = await python(["-m", "zipfile", "-e", `${work}/${wheel.name}`, `${work}/wheel`]);
    if (unpacked !== undefined) return unpacked;
    const found = `${work}/wheel/${file.member}`;
    const digest = file.sha256 && await sha256(await Deno.readFile(found));
    if (digest !== file.sha256) return `found SHA-256 ${digest}, expected ${file.sha256}`;
    await Deno.rename(found, to);
    return undefined;
  } catch (error) {
    if (!(error instanceof Error) || error instanceof Deno.errors.NotCapable) throw error;
    return error.message;
  } finally {
    if (work !== undefined) await Deno.remove(work, { recursive: true });
  }
}

/**
 * Puts packages into a folder of the cache, unless another process is faster.
 *
 * @param packages Or the path of a file of requirements with digests.
 * @param isWhole Whether the folder contains programs that run; it is replaced otherwise.
 * @returns The reason if pip fails.
 */
export async function fetchFolder(
  packages: readonly PinnedPackage[] | string,
  to: string,
  isWhole: () => Promise<boolean>,
): Promise<string | undefined> {
  await prepareCacheDir();
  const work = await Deno.makeTempDir({ dir: cacheDir(), prefix: ".wheel-" });
  try {
    const trouble = await python(await installArguments(packages, work));
    if (trouble !== undefined) return trouble;
    try {
      await Deno.rename(work, to);
    } catch {
      if (await isWhole()) return undefined;
      await Deno.remove(to, { recursive: true }); // parts that do not run
      await Deno.rename(work, to);
    }
    return undefined;
  } finally {
    await Deno.remove(work, { recursive: true }).catch(() => {});
  }
}

/** Runs python3; the last line it complained with, or undefined where all went well. */
async function python(args: readonly string[]): Promise<string | undefined> {
  const { success, stderr } = await run("python3", args);
  return success ? undefined : reasonOf(stderr) ?? "failed";
}
