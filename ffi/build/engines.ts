/** The files that other engines link or load, in a folder under names that do not change. */
import { writeAtomically } from "../../lib/cache.ts";
import { NativeLibraryError, UsageError } from "../../lib/errors.ts";
import { LIBRARY_SUFFIX } from "../cache.ts";

const EMBED_URL = new URL("../embed/", import.meta.url);
/** The C header, examples in C and Python, and what makes a wheel of these and the library. */
const FILES = [
  ...["tokenfilter_filter.h", "filter.c", "filter.py", "transformers_filter.py"],
  ...["pyproject.toml", "setup.py"],
];

/** Makes the folder, before anything long is begun. @throws {UsageError} If it takes no files. */
export async function prepareOut(folder: string): Promise<void> {
  try {
    await Deno.mkdir(folder, { recursive: true });
    await Deno.remove(await Deno.makeTempFile({ dir: folder }));
  } catch (error) {
    if (!(error instanceof Error) || error instanceof Deno.errors.NotCapable) throw error;
    const reason = error.message.replace(/ \(os error \d+\).*/, "");
    throw new UsageError(`Cannot use --out "${folder}": ${reason}; expected a folder that takes files`);
  }
}

/**
 * Copies a CPU library with its header and examples.
 *
 * @param suffix End of the library's name on its system.
 * @returns Their paths.
 */
export async function copyForEngines(
  library: string | Uint8Array<ArrayBuffer>,
  folder: string,
  suffix = LIBRARY_SUFFIX,
): Promise<string[]> {
  const own = typeof library === "string" ? await Deno.readFile(library) : library;
  const copies: [name: string, bytes: Uint8Array<ArrayBuffer>][] = [[`libtokenfilter_cpu.${suffix}`, own]];
  for (const name of FILES) {
    const response = await fetch(new URL(name, EMBED_URL));
    if (!response.ok) {
      throw new NativeLibraryError(`Cannot read ${response.url}: found status ${response.status}`);
    }
    copies.push([name, await response.bytes()]);
  }
  // A library that is loaded is replaced, not overwritten.
  for (const [name, bytes] of copies) await writeAtomically(`${folder}/${name}`, bytes);
  return copies.map(([name]) => `${folder}/${name}`);
}
