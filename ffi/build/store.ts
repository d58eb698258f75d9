/** Stores the build of a library in the cache. */
import { cacheDir, OTHERS_READ, writeAtomically } from "../../lib/cache.ts";
import { LIBRARY_SUFFIX, type LibraryManifest, manifestPath } from "../cache.ts";
import { sha256 } from "../../lib/sha256.ts";
import { abiOf, sourceKey, type Sources } from "../library/sources.ts";
import { type Compiler, gitHash } from "./command.ts";

/** A library that is ready to load. */
export interface BuiltLibrary<Manifest extends LibraryManifest = LibraryManifest> {
  /** Its path. */
  readonly path: string;
  /** The notes of its build. */
  readonly manifest: Manifest;
  /** Whether it was there already. */
  readonly cached: boolean;
}

/**
 * Builds a library, and stores it under the digest of its content, so that one that is loaded is never overwritten.
 *
 * @param make Makes the library; gives its bytes, and the entries of its manifest besides the common part.
 * @param level Level of the CPU library; see {@linkcode manifestPath}.
 */
export async function storeLibrary<More extends object>(
  library: "cpu" | "cuda",
  sources: Sources,
  compiler: Compiler,
  flags: readonly string[],
  make: () => Promise<{ bytes: Uint8Array<ArrayBuffer>; more: More }>,
  level?: string,
): Promise<BuiltLibrary<LibraryManifest & More>> {
  const started = performance.now();
  const { bytes, more } = await make();
  const digest = await sha256(bytes);
  const name = `libtokenfilter_${library}-${digest.slice(0, 16)}.${LIBRARY_SUFFIX}`;
  const path = `${cacheDir()}/${name}`;
  await writeAtomically(path, bytes, OTHERS_READ);
  const manifest = {
    abi: abiOf(sources),
    git: await gitHash(),
    compiler: compiler.version,
    flags,
    library: name,
    sha256: digest,
    ...more,
    buildMs: Math.round(performance.now() - started),
  };
  await writeAtomically(
    manifestPath(library, await sourceKey(library, sources), level),
    JSON.stringify(manifest, null, 2) + "\n",
    OTHERS_READ,
  );
  return { path, manifest, cached: false };
}
