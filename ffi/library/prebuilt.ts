/** Prebuilt CPU libraries: an npm package for a platform, taken where its library is the one that this release lists. */
import { createRequire } from "node:module";
import process from "node:process";
import { ifThere } from "../../lib/cache.ts";
import { sha256 } from "../../lib/sha256.ts";
import { LIBRARY_SUFFIX } from "../cache.ts";
import { PREBUILT } from "./prebuilt_list.ts";
import { KERNELS_URL, packageOf, sourceKey } from "./sources.ts";

/** The libraries of a release: the key of their sources, and a SHA-256 by platform. */
export type Prebuilt = typeof PREBUILT;

/** An installed package. */
interface FoundPrebuilt {
  /** Its name and version. */
  readonly name: string;
  /** Path of its library, if that fits. */
  readonly path?: string;
  /** Why it does not fit. */
  readonly trouble?: string;
}

/** npm's name of this platform, such as `linux-x64`. */
export const PLATFORM = `${process.platform}-${process.arch}`;

/** The program's main module, or a place next to which its packages are looked for. */
function mainModule(): string {
  const own = (Deno.mainModule as string | undefined) ?? location.href; // a Worker has only the latter
  return own.startsWith("file:") ? own : `${Deno.cwd()}/`;
}

/** The `package.json` of this platform's package, as a module would import it; undefined: none is installed. */
function locatePackage(from: string): string | undefined {
  try {
    return createRequire(from).resolve(`${packageOf(PLATFORM)}/package.json`);
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "MODULE_NOT_FOUND") return undefined;
    throw error;
  }
}

/**
 * The package with the library of this platform, where the program has installed it. A checkout takes only a library of
 * its present sources.
 *
 * @param list The libraries of this release.
 * @param from The module whose packages are searched: the main one by default.
 * @returns undefined where none is installed.
 */
export async function findPrebuilt(
  list: Prebuilt = PREBUILT,
  from?: string,
): Promise<FoundPrebuilt | undefined> {
  // With a list of readable paths, each folder of the search would be a question to the user.
  if (Deno.permissions.querySync({ name: "read" }).state !== "granted") return undefined;
  const description = locatePackage(from ?? mainModule());
  if (description === undefined) return undefined;
  const { version } = JSON.parse(await Deno.readTextFile(description));
  const name = `${packageOf(PLATFORM)}@${version}`;
  const path = description.replace(/package\.json$/, `libtokenfilter_cpu.${LIBRARY_SUFFIX}`);
  const expected = list.libraries[PLATFORM];
  if (expected === undefined) return { name, trouble: "this release lists no library for this platform" };
  if (KERNELS_URL.protocol === "file:" && list.sources !== await sourceKey("cpu")) {
    return { name, trouble: "it is not of these sources" };
  }
  const bytes = await ifThere(Deno.readFile(path));
  const found = bytes === undefined ? "no library" : await sha256(bytes);
  return found === expected
    ? { name, path }
    : { name, trouble: `found ${found}, expected SHA-256 ${expected}` };
}
