/** Finding, checking and opening the native library. A library once open is never closed. */
import { NativeLibraryError } from "../lib/errors.ts";
import { type BuildManifest, cacheDir, isMissing, manifestPath } from "./cache.ts";
import { sha256 } from "./sources.ts";
import { ABI_VERSION, SYMBOLS, type Symbols } from "./symbols.ts";

/** The command that mends a missing or outdated library. */
const MEND = "run: deno run -A build.ts";

/** Libraries that this process has open, by path. */
const open = new Map<string, Symbols>();

/**
 * Path of the library: `explicit`, else `TOKENFILTER_LIBRARY`, else the build of the present sources in the cache.
 *
 * @throws {NativeLibraryError} If it is in none of those places, or differs from what its build noted.
 */
export async function findLibrary(explicit?: string): Promise<string> {
  const asked = explicit ?? Deno.env.get("TOKENFILTER_LIBRARY");
  if (asked) {
    const source = explicit === undefined ? "TOKENFILTER_LIBRARY" : "the path given";
    if (await exists(asked)) return await Deno.realPath(asked);
    throw new NativeLibraryError(
      `Cannot find the native library: found nothing at "${asked}" (${source}), expected a built library; ${MEND}`,
    );
  }
  const noted = await manifestPath();
  let manifest: BuildManifest;
  try {
    manifest = JSON.parse(await Deno.readTextFile(noted));
  } catch (error) {
    if (!isMissing(error) && !(error instanceof SyntaxError)) throw error;
    throw new NativeLibraryError(
      `Cannot find the native library: found neither TOKENFILTER_LIBRARY nor a build noted in "${noted}"; ${MEND}`,
      { cause: error },
    );
  }
  const path = `${cacheDir()}/${manifest.library}`;
  const found = await exists(path) ? await sha256(await Deno.readFile(path)) : "no file";
  if (found !== manifest.sha256) {
    throw new NativeLibraryError(
      `Cannot use the native library "${path}": found ${found}, expected SHA-256 ${manifest.sha256}; ` +
        `${MEND} --force`,
    );
  }
  return path;
}

async function exists(path: string): Promise<boolean> {
  try {
    return (await Deno.stat(path)).isFile;
  } catch (error) {
    if (isMissing(error)) return false;
    throw error;
  }
}

/**
 * Opens a library and checks its ABI version.
 *
 * @throws {NativeLibraryError} If the system cannot load it, or its ABI is another.
 */
export function loadLibrary(path: string): Symbols {
  const known = open.get(path);
  if (known !== undefined) return known;
  let symbols: Symbols;
  try {
    symbols = Deno.dlopen(path, SYMBOLS).symbols as Symbols;
  } catch (error) {
    if (!(error instanceof Error) || error instanceof Deno.errors.NotCapable) throw error;
    throw new NativeLibraryError(`Cannot load "${path}": ${error.message}; ${MEND}`, { cause: error });
  }
  const found = symbols.tkf_abi_version();
  if (found !== ABI_VERSION) {
    throw new NativeLibraryError(
      `Cannot use "${path}": found ABI version ${found}, expected ${ABI_VERSION}; ${MEND} --force`,
    );
  }
  open.set(path, symbols);
  return symbols;
}
