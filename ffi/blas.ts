/**
 * A BLAS for products of many rows. A fresh machine has none, so a pinned OpenBLAS comes from the Python package
 * index that pip is set up with; without it, a system's OpenBLAS or the library's own kernel serves.
 */
import { cacheDir, ifThere } from "../lib/cache.ts";
import { buildCommand } from "./library/library.ts";
import { requirementOf } from "../lib/pip.ts";
import { sha256 } from "../lib/sha256.ts";

/** @internal A BLAS to load, and how it came about. */
export interface FoundBlas {
  /** Path, or a name for the system's loader; undefined: use the built-in kernel. */
  readonly path: string | undefined;
  /** Where it is from, or why there is none. */
  readonly reason: string;
}

/** The pinned build, for the one platform where its digest is known. */
export const PINNED_BLAS = {
  platform: "linux-x86_64",
  package: {
    name: "scipy-openblas32",
    version: "0.3.34.481.3",
    sha256: "0595f94cd58c1f8a0d90c975621f4587337a003916b1979e834ebdf2cb5d9504",
  },
  member: "scipy_openblas32/lib/libscipy_openblas.so",
  sha256: "b396d74f12ab4319e6713b3287104d64245c76c60e5bd9eaeb4b447eda66a561",
} as const;
/** Possible names of an OpenBLAS with 32-bit integers in a system. */
const SYSTEM_NAMES: { readonly [os: string]: readonly string[] } = {
  linux: ["libopenblas.so.0", "libopenblas.so"],
  darwin: [
    "/opt/homebrew/opt/openblas/lib/libopenblas.dylib",
    "/usr/local/opt/openblas/lib/libopenblas.dylib",
  ],
};

/** Path of the fetched copy. */
export function pinnedPath(): string {
  return `${cacheDir()}/libscipy_openblas-${PINNED_BLAS.sha256.slice(0, 16)}.so`;
}

/** Whether the fetched copy is there, whole. */
async function hasPinned(): Promise<boolean> {
  const bytes = await ifThere(Deno.readFile(pinnedPath()));
  return bytes !== undefined && await sha256(bytes) === PINNED_BLAS.sha256;
}

function fromSystem(whyNotPinned: string): FoundBlas {
  for (const name of SYSTEM_NAMES[Deno.build.os] ?? []) {
    try {
      // Opened for a look only; the loader keeps no handle once this one is closed.
      Deno.dlopen(name, { cblas_sgemm: { parameters: [], result: "void" } }).close();
      return { path: name, reason: `system library; ${whyNotPinned}` };
    } catch (error) {
      if (error instanceof Deno.errors.NotCapable) throw error;
    }
  }
  return { path: undefined, reason: `no OpenBLAS in the system; ${whyNotPinned}` };
}

const VARIABLE = "TOKENFILTER_BLAS";

/**
 * The BLAS to use: that of `TOKENFILTER_BLAS` (a path, or `none`), the fetched copy, the system's, or none. Without the
 * permission to read the environment there is no search.
 *
 * @param fetchPinned Fetches the copy where there is none; returns the reason if it fails. By default nothing is
 * fetched.
 * @param level Instruction-set level that it is for: where the library's own products are faster, only a named one is
 * taken.
 */
export async function findBlas(
  fetchPinned = (): Promise<string | undefined> =>
    Promise.resolve(`none fetched (${buildCommand()} fetches one)`),
  level?: string,
): Promise<FoundBlas> {
  if (Deno.permissions.querySync({ name: "env", variable: VARIABLE }).state !== "granted") {
    return { path: undefined, reason: "none looked for: that needs --allow-env, or its path as an option" };
  }
  const named = Deno.env.get(VARIABLE);
  if (named) return { path: named === "none" ? undefined : named, reason: `${VARIABLE}=${named}` };
  if (level === "avx512") return { path: undefined, reason: "a BLAS is no faster at this level" };
  const { platform } = PINNED_BLAS, requirement = requirementOf(PINNED_BLAS.package);
  if (`${Deno.build.os}-${Deno.build.arch}` !== platform) {
    return fromSystem(`${requirement} is pinned for ${platform} only`);
  }
  const trouble = await hasPinned() ? undefined : await fetchPinned();
  return trouble === undefined ? { path: pinnedPath(), reason: requirement } : fromSystem(trouble);
}
