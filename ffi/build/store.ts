/** Builds of a library in the cache: found there, or made and stored. */
import { cacheDir, prepareCacheDir, writeAtomically } from "../../lib/cache.ts";
import { LIBRARY_SUFFIX, type LibraryManifest, manifestPath, readCache } from "../cache.ts";
import { sha256 } from "../../lib/sha256.ts";
import type { Sources } from "../sources.ts";
import { type Compiler, findCompiler, gitHash } from "./command.ts";

/** A library that is ready to load. */
export interface BuiltLibrary<Manifest extends LibraryManifest> {
  /** Its path. */
  readonly path: string;
  /** What its build noted. */
  readonly manifest: Manifest;
  /** Whether it was there already. */
  readonly cached: boolean;
}

/** The library that the cache holds for the present sources (`texts` where already read), if it is whole. */
export async function findBuilt<Manifest extends LibraryManifest>(
  library: "cpu" | "cuda",
  texts?: Sources,
): Promise<BuiltLibrary<Manifest> | undefined> {
  const built = await readCache<Manifest>(await manifestPath(library, texts));
  if (built === undefined || built.found !== built.manifest.sha256) return undefined;
  return { path: built.path, manifest: built.manifest, cached: true };
}

/**
 * Builds a library in a folder of its own, and stores it under the digest of its content, so that one that is loaded is
 * never overwritten.
 *
 * @param make Makes the library in the folder; gives its bytes, and what its manifest holds beside the common part.
 */
export async function storeLibrary<More extends object>(
  library: "cpu" | "cuda",
  sources: Sources,
  flags: readonly string[],
  make: (compiler: Compiler, work: string) => Promise<{ bytes: Uint8Array<ArrayBuffer>; more: More }>,
): Promise<BuiltLibrary<LibraryManifest & More>> {
  const started = performance.now();
  const compiler = await findCompiler();
  await prepareCacheDir();
  const work = await Deno.makeTempDir({ prefix: "tokenfilter-build-" });
  try {
    const { bytes, more } = await make(compiler, work);
    const digest = await sha256(bytes);
    const name = `libtokenfilter_${library}-${digest.slice(0, 16)}.${LIBRARY_SUFFIX}`;
    const path = `${cacheDir()}/${name}`;
    await writeAtomically(path, bytes);
    const manifest = {
      abi: Number(sources.get("include/tokenfilter.h")!.match(/#define TKF_ABI_VERSION (\d+)/)?.[1]),
      git: await gitHash(),
      compiler: compiler.version,
      flags,
      library: name,
      sha256: digest,
      ...more,
      buildMs: Math.round(performance.now() - started),
    };
    await writeAtomically(await manifestPath(library, sources), JSON.stringify(manifest, null, 2) + "\n");
    return { path, manifest, cached: false };
  } finally {
    await Deno.remove(work, { recursive: true });
  }
}
