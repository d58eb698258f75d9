/** What the native library is made of: files, compiler flags, levels; and the key of the build that belongs to them. */
import { NativeLibraryError } from "../lib/errors.ts";

/** Folder of the kernels, with a slash at its end. */
export const KERNELS_URL = new URL("../kernels/", import.meta.url);

/** Ops: `kernels/<op>/<op>.cpp` (entry points) and `kernels/<op>/<op>_cpu.cpp` (bodies, once per level). */
const OPS: readonly string[] = [
  "embedding",
  "filtered_attention",
  "kv_filter_scan",
  "linear",
  "machine",
  "nll",
  "rms_norm",
  "rope",
  "rows",
  "swiglu",
];

/** Every source file, relative to {@linkcode KERNELS_URL}. */
export const KERNEL_SOURCES: readonly string[] = [
  "include/tokenfilter.h",
  "common/blas.cpp",
  "common/blas.h",
  "common/blocks.h",
  "common/check.h",
  "common/context.cpp",
  "common/context.h",
  "common/cpu_context.h",
  "common/entries.cpp",
  "common/kernels.h",
  "common/level.cpp",
  "common/pool.cpp",
  "common/pool.h",
  "common/simd.h",
  "filtered_attention/engine.h",
  "filtered_attention/few_rows.h",
  "filtered_attention/filtered_attention.h",
  "filtered_attention/tile.h",
  "filtered_attention/vector.h",
  "kv_filter_scan/check_filter.h",
  "kv_filter_scan/decide.h",
  "kv_filter_scan/kv_filter_scan.h",
  "kv_filter_scan/learned.h",
  "kv_filter_scan/learned_layout.h",
  "kv_filter_scan/score.h",
  "kv_filter_scan/signs.h",
  ...OPS.flatMap((op) => [`${op}/${op}.cpp`, `${op}/${op}_cpu.cpp`]),
];

/** Flags that all translation units share. Not -ffast-math: what is computed must not be the compiler's choice. */
export const FLAGS: readonly string[] = [
  "-std=c++17",
  "-O3",
  "-fPIC",
  "-fno-math-errno",
  "-fvisibility=hidden",
  "-pthread",
  "-Wall",
  "-Wextra",
];

/** Flags of the linker on Linux. Templates of the standard library ignore -fvisibility; `exports` hides them too. */
export const LINUX_LINK_FLAGS: readonly string[] = [
  "-Wl,--no-undefined",
  "-Wl,--version-script=exports",
  "-ldl",
  "-lm",
];

/** An instruction-set level of the CPU library. */
export interface Level {
  /** The name that `openCpu` and `TOKENFILTER_LEVEL` take. */
  readonly name: string;
  /** Its number in the C ABI, `TKF_LEVEL_…`. */
  readonly code: number;
  /** The compiler flags that switch it on. */
  readonly flags: readonly string[];
}

const AVX2 = ["-mavx2", "-mfma", "-mf16c"];
const AVX512 = ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mprefer-vector-width=512"];

/** Levels by architecture (Deno's name of it), lowest first, which is also the slowest to compile. */
export const LEVELS: { readonly [arch: string]: readonly Level[] } = {
  x86_64: [
    { name: "base", code: 0, flags: ["-msse4.2", "-mpopcnt"] },
    { name: "avx2", code: 1, flags: AVX2 },
    { name: "avx512", code: 2, flags: [...AVX2, ...AVX512] },
  ],
  aarch64: [{ name: "base", code: 0, flags: [] }],
};

/**
 * The text of all sources, read from disk or, where the package was imported over https, fetched.
 *
 * @throws {NativeLibraryError} If one cannot be fetched.
 */
export async function readKernelSources(): Promise<Map<string, string>> {
  const texts = await Promise.all(KERNEL_SOURCES.map(async (path) => {
    const url = new URL(path, KERNELS_URL);
    if (url.protocol === "file:") return await Deno.readTextFile(url);
    try {
      const response = await fetch(url);
      if (response.ok) return await response.text();
      throw new Error(`found status ${response.status}, expected 200`);
    } catch (error) {
      if (!(error instanceof Error) || error instanceof Deno.errors.NotCapable) throw error;
      throw new NativeLibraryError(`Cannot fetch ${url}: ${error.message}`, { cause: error });
    }
  }));
  return new Map(KERNEL_SOURCES.map((path, i) => [path, texts[i]]));
}

/** Lower-case hexadecimal SHA-256. */
export async function sha256(data: string | Uint8Array<ArrayBuffer>): Promise<string> {
  const bytes = typeof data === "string" ? new TextEncoder().encode(data) : data;
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * Names the state of the sources and the flags: a digest of their text, or, where they lie on the network, of their
 * address (which holds the version), so that starting a program fetches nothing.
 *
 * @param texts The sources where they were read already.
 */
export async function sourceKey(texts?: Map<string, string>): Promise<string> {
  const sources = KERNELS_URL.protocol === "file:"
    ? [...texts ?? await readKernelSources()]
    : KERNELS_URL.href;
  return (await sha256(JSON.stringify({ sources, FLAGS, LINUX_LINK_FLAGS, LEVELS }))).slice(0, 16);
}
