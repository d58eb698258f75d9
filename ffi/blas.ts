/**
 * A BLAS for products of many rows. A fresh machine has none, so a pinned OpenBLAS comes from the Python package
 * index that pip is set up with; without it, a system's OpenBLAS or the library's own kernel serves.
 */
import { cacheDir, isMissing, prepareCacheDir, writeAtomically } from "./cache.ts";
import { sha256 } from "./sources.ts";

/** A BLAS to load, and how it came about. */
export interface FoundBlas {
  /** Path (or a name that the system's loader knows); undefined: use the built-in kernel. */
  readonly path: string | undefined;
  /** Where it is from, or why there is none. */
  readonly reason: string;
}

/** Options of {@linkcode ensureBlas}. */
export interface BlasOptions {
  /** Is told what goes on, in short lines, only where something has to be done. */
  readonly onProgress?: (message: string) => void;
}

/** The pinned build, for the one platform where its digest is known. */
const PINNED = {
  platform: "linux-x86_64",
  requirement: "scipy-openblas32==0.3.34.481.3",
  member: "scipy_openblas32/lib/libscipy_openblas.so",
  sha256: "b396d74f12ab4319e6713b3287104d64245c76c60e5bd9eaeb4b447eda66a561",
};
/** Names under which a system's loader may know an OpenBLAS with 32-bit integers. */
const SYSTEM_NAMES: { readonly [os: string]: readonly string[] } = {
  linux: ["libopenblas.so.0", "libopenblas.so"],
  darwin: [
    "/opt/homebrew/opt/openblas/lib/libopenblas.dylib",
    "/usr/local/opt/openblas/lib/libopenblas.dylib",
  ],
};

/** Where the fetched copy lies. */
function pinnedPath(): string {
  return `${cacheDir()}/libscipy_openblas-${PINNED.sha256.slice(0, 16)}.so`;
}

/** Whether the fetched copy is there, whole. */
async function hasPinned(): Promise<boolean> {
  if (`${Deno.build.os}-${Deno.build.arch}` !== PINNED.platform) return false;
  try {
    return await sha256(await Deno.readFile(pinnedPath())) === PINNED.sha256;
  } catch (error) {
    if (isMissing(error)) return false;
    throw error;
  }
}

/** What the user asked for by `TOKENFILTER_BLAS` (a path, or `none`), if anything. */
function askedFor(): FoundBlas | undefined {
  const asked = Deno.env.get("TOKENFILTER_BLAS");
  if (!asked) return undefined;
  return { path: asked === "none" ? undefined : asked, reason: `TOKENFILTER_BLAS=${asked}` };
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

/** The BLAS to use now, without fetching one: `TOKENFILTER_BLAS`, the fetched copy, the system's, or none. */
export async function findBlas(): Promise<FoundBlas> {
  const asked = askedFor();
  if (asked !== undefined) return asked;
  if (await hasPinned()) return { path: pinnedPath(), reason: PINNED.requirement };
  return fromSystem("none fetched (deno run -A build.ts fetches one)");
}

/**
 * The BLAS to use, fetched where there is none yet. Failing to fetch it is no error: the reason says why, and the
 * system's OpenBLAS or the built-in kernel serves.
 */
export async function ensureBlas(options: BlasOptions = {}): Promise<FoundBlas> {
  const { onProgress = () => {} } = options;
  const asked = askedFor();
  if (asked !== undefined) return asked;
  if (await hasPinned()) return { path: pinnedPath(), reason: PINNED.requirement };
  if (`${Deno.build.os}-${Deno.build.arch}` !== PINNED.platform) {
    return fromSystem(`${PINNED.requirement} is pinned for ${PINNED.platform} only`);
  }
  onProgress(`fetching ${PINNED.requirement} with pip`);
  const trouble = await fetchPinned();
  if (trouble === undefined) return { path: pinnedPath(), reason: PINNED.requirement };
  onProgress(`no OpenBLAS from pip: ${trouble}`);
  return fromSystem(`pip: ${trouble}`);
}

/** Downloads and unpacks the pinned wheel; what went wrong, or undefined. */
async function fetchPinned(): Promise<string | undefined> {
  const work = await Deno.makeTempDir({ prefix: "tokenfilter-blas-" });
  try {
    await prepareCacheDir();
    const pip = ["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"];
    const limits = ["--retries", "1", "--timeout", "20", "--only-binary", ":all:"];
    const trouble = await python([...pip, ...limits, "--dest", work, PINNED.requirement]);
    if (trouble !== undefined) return trouble;
    const wheel = Array.from(Deno.readDirSync(work)).find(({ name }) => name.endsWith(".whl"));
    if (wheel === undefined) return "found no wheel";
    const unpacked = await python(["-m", "zipfile", "-e", `${work}/${wheel.name}`, `${work}/wheel`]);
    if (unpacked !== undefined) return unpacked;
    const library = await Deno.readFile(`${work}/wheel/${PINNED.member}`);
    const digest = await sha256(library);
    if (digest !== PINNED.sha256) return `found SHA-256 ${digest}, expected ${PINNED.sha256}`;
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
async function python(args: string[]): Promise<string | undefined> {
  try {
    const { success, stderr } = await new Deno.Command("python3", { args, stdin: "null" }).output();
    if (success) return undefined;
    return new TextDecoder().decode(stderr).trim().split("\n").pop() || "failed";
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return "python3 not found";
    throw error;
  }
}
