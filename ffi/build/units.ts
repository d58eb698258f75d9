/**
 * What the CUDA library is made of, and its emulated sibling: translation units, each with the headers that it
 * includes, so that a change compiles again what it touches and nothing else.
 */
import { NativeLibraryError } from "../../lib/errors.ts";
import { KERNELS_URL, sha256 } from "../sources.ts";

/** Source texts by path, relative to `kernels/`. */
export type Sources = ReadonlyMap<string, string>;

/** Entry points that both libraries share, in one unit. */
const ENTRIES = "common/cuda_entries.cpp";
/** The emulator itself. */
export const EMULATOR_UNITS: readonly string[] = [
  "async",
  "launch",
  "machine",
  "runtime",
  "tensor_map",
  "warp",
  "wgmma",
]
  .map((name) => `testing/emulator/${name}.cpp`);

/**
 * Reads all of `kernels/`.
 *
 * @throws {NativeLibraryError} If it lies on the network, where nobody lists files.
 */
export async function readCudaSources(): Promise<Map<string, string>> {
  if (KERNELS_URL.protocol !== "file:") {
    throw new NativeLibraryError(
      `Cannot build the CUDA library: found its sources at ${KERNELS_URL}, expected a checkout on disk`,
    );
  }
  const sources = new Map<string, string>();
  const visit = async (folder: string) => {
    const entries = Array.from(Deno.readDirSync(new URL(folder || ".", KERNELS_URL)));
    for (const { name, isDirectory } of entries.sort((a, b) => a.name < b.name ? -1 : 1)) {
      const path = `${folder}${name}`;
      if (isDirectory) await visit(`${path}/`);
      else if (/\.(cu|cuh|cpp|h)$/.test(name)) {
        sources.set(path, await Deno.readTextFile(new URL(path, KERNELS_URL)));
      }
    }
  };
  await visit("");
  return sources;
}

/** Paths of the translation units of one of the two libraries. */
export function unitsOf(sources: Sources, library: "cuda" | "emulated"): string[] {
  const kernels = [...sources.keys()].filter((path) => path.endsWith(".cu"));
  return [...kernels, ENTRIES, ...(library === "emulated" ? EMULATOR_UNITS : [])];
}

/**
 * A source file and all that it includes, directly or not, sorted. Files of the system are left out, and so are those
 * that are not there: the compiler says so.
 */
export function includesOf(sources: Sources, path: string): string[] {
  const found = new Set<string>();
  const visit = (path: string) => {
    const text = sources.get(path);
    if (text === undefined || found.has(path)) return;
    found.add(path);
    for (const [, name] of text.matchAll(/^\s*#\s*include\s+"([^"]+)"/gm)) {
      const base = new URL(path, "file:///");
      visit(new URL(name!, base).pathname.slice(1));
    }
  };
  visit(path);
  return [...found].sort();
}

/** Digest of a unit with its headers, and of anything else that decides what it compiles to. */
export async function unitKey(sources: Sources, path: string, rest: unknown): Promise<string> {
  const texts = includesOf(sources, path).map((name) => [name, sources.get(name)]);
  return (await sha256(JSON.stringify([path, texts, rest]))).slice(0, 32);
}

/** Writes sources to a folder. */
export async function writeSources(sources: Sources, folder: string): Promise<void> {
  for (const [path, text] of sources) {
    await Deno.mkdir(`${folder}/${path}`.replace(/\/[^/]*$/, ""), { recursive: true });
    await Deno.writeTextFile(`${folder}/${path}`, text);
  }
}
