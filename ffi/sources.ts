/** What the native libraries are made of: files, compiler flags, targets; and the key of the build that belongs to them. */
import { NativeLibraryError } from "../lib/errors.ts";
import { sha256 } from "../lib/sha256.ts";

/** Folder of the kernels, with a slash at its end. */
export const KERNELS_URL = new URL("../kernels/", import.meta.url);

/** Source texts by path, relative to {@linkcode KERNELS_URL}. */
export type Sources = ReadonlyMap<string, string>;

/** Translation units of each library. The files that they include, directly or not, are the rest of its sources. */
export const UNITS = {
  cpu: ["common/entries.cpp", "common/level.cpp"],
  cuda: [
    "common/cuda_context.cu",
    "common/cuda_table.cu",
    "embedding/embedding.cu",
    "filtered_attention/decode.cu",
    "filtered_attention/prefill.cu",
    "filtered_attention/prefill_wgmma.cu",
    "kv_filter_observe/kv_filter_observe.cu",
    "kv_filter_scan/kv_filter_scan.cu",
    "kv_filter_step/kv_filter_step.cu",
    "linear/cublaslt.cu",
    "linear/few_rows.cu",
    "linear/linear.cu",
    "machine/machine.cu",
    "nll/nll.cu",
    "rms_norm/rms_norm.cu",
    "rope/rope.cu",
    "rows/rows.cu",
    "swiglu/swiglu.cu",
    "common/cuda_entries.cpp",
  ],
} as const satisfies { readonly [library: string]: readonly string[] };

/** Where the emulator, fuzzers and mutants lie: no part of the package, included only by units that lie there too. */
const TESTING = "testing/";

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

/** Architectures that a full build of the CUDA library holds; later ones run the code in PTX of compute_80. */
export const CUDA_ARCHS: readonly string[] = ["80", "86", "89", "90a", "100", "120"];

/** Flags of nvcc. */
export const CUDA_FLAGS: readonly string[] = [
  "-std=c++17",
  "-O3",
  "-Xptxas=-v",
  "-Xcompiler=-fPIC,-fvisibility=hidden,-Wall",
  "-Werror=all-warnings",
];

/** Flags of nvcc as a linker. */
export const CUDA_LINK_FLAGS: readonly string[] = [
  "-shared",
  "-cudart=static",
  "-Xlinker=--version-script=exports,--no-undefined",
  "-ldl",
];

/** Paths of the files of the project that a source includes itself, relative to {@linkcode KERNELS_URL}. */
export function localIncludes(path: string, text: string): string[] {
  const base = new URL(path, "file:///");
  return Array.from(
    text.matchAll(/^\s*#\s*include\s+"([^"]+)"/gm),
    ([, name]) => new URL(name!, base).pathname.slice(1),
  );
}

/**
 * Units and all that they include, from disk or, where the package lies on the network, from there.
 *
 * @throws {NativeLibraryError} If one cannot be read.
 */
export async function readSources(units: readonly string[]): Promise<Map<string, string>> {
  const texts = new Map<string, string>();
  const isTest = units.some((path) => path.startsWith(TESTING));
  const seen = new Set<string>();
  const visit = async (path: string): Promise<void> => {
    if (seen.has(path) || (!isTest && path.startsWith(TESTING))) return;
    seen.add(path);
    const text = await readSource(path);
    texts.set(path, text);
    await Promise.all(localIncludes(path, text).map(visit));
  };
  await Promise.all(units.map(visit));
  return new Map([...texts].sort(([a], [b]) => a < b ? -1 : 1));
}

async function readSource(path: string): Promise<string> {
  const url = new URL(path, KERNELS_URL);
  try {
    const response = await fetch(url);
    if (response.ok) return await response.text();
    throw new Error(`found status ${response.status}, expected 200`);
  } catch (error) {
    if (!(error instanceof Error) || error instanceof Deno.errors.NotCapable) throw error;
    throw new NativeLibraryError(`Cannot read ${url}: ${error.message}`, { cause: error });
  }
}

/**
 * Names the state of a library's sources and flags: a digest of the texts, or, where they lie on the network, of their
 * address (which holds the version), so that starting a program fetches nothing.
 *
 * @param texts The sources where they were read already.
 */
export async function sourceKey(library: keyof typeof UNITS, texts?: Sources): Promise<string> {
  const sources = KERNELS_URL.protocol === "file:"
    ? [...texts ?? await readSources(UNITS[library])]
    : KERNELS_URL.href;
  const recipe = library === "cpu" ? [FLAGS, LINUX_LINK_FLAGS, LEVELS] : [CUDA_FLAGS, CUDA_LINK_FLAGS];
  return (await sha256(JSON.stringify([sources, recipe]))).slice(0, 16);
}
