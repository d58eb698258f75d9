/** Sources, compiler flags and targets of the native libraries; and the key of the build that belongs to them. */
import { NativeLibraryError } from "../../lib/errors.ts";
import { sha256 } from "../../lib/sha256.ts";

/** Folder of the kernels, with a slash at its end. */
export const KERNELS_URL = new URL("../../kernels/", import.meta.url);

/** Source texts by path, relative to {@linkcode KERNELS_URL}. */
export type Sources = ReadonlyMap<string, string>;

/** The list of ops: it names the sources that check arguments, and a .def file for each, which names its units. */
const OPS = "ops.def";
/** Translation units of each library next to those of the ops. */
const UNITS = {
  cpu: ["common/entries.cpp", "common/level.cpp"],
  cuda: ["common/cuda/context.cu", "common/cuda/entries.cpp"],
} as const satisfies { readonly [library: string]: readonly string[] };
/** Units named in a .def file that are those of a library. */
const OP_UNITS = { cpu: /_cpu\.cpp$/, cuda: /\.cu$/ } as const;

/** Folder of the interpreter of PTX and of the fuzzer: no part of the package, and included only by units in it. */
const TESTING = "testing/";

/** Common flags of all translation units. Not -ffast-math: the compiler may not change the order of additions. */
export const FLAGS: readonly string[] = [
  "-std=c++17",
  "-fno-math-errno",
  "-fvisibility=hidden",
  "-Wall",
  "-Wextra",
];
/** Common flags of a shared library. */
export const SHARED_FLAGS: readonly string[] = ["-fPIC", "-pthread"];

/** Flags of the linker on Linux. Templates of the standard library ignore -fvisibility; `exports` hides them too. */
export const LINUX_LINK_FLAGS: readonly string[] = [
  "-Wl,--no-undefined",
  "-Wl,--version-script=exports",
  "-ldl",
  "-lm",
];

/** Those of the CPU library, which programs link under a name that does not change. */
export const CPU_LINK_FLAGS: readonly string[] = [...LINUX_LINK_FLAGS, "-Wl,-soname,libtokenfilter_cpu.so"];

/**
 * Units that round each product before they add it, as TypeScript does: those of the filter, whose scores and fits must
 * equal the reference's, and products in int8, which have the same bits at every level. Compilers otherwise fuse the two
 * where the processor can (g++ does in C++ by default). The loops of other products and of attention are written for that.
 */
const EXACT_UNITS = /^(common\/entries|kv_filter_\w+\/\w+|linear\/int8\/\w+)\.cpp$/;
/** Flags of {@linkcode EXACT_UNITS}. */
const EXACT_FLAGS: readonly string[] = ["-ffp-contract=off"];

/** Flags of one unit of the CPU library, besides the common ones and those of its level. */
export function unitFlags(unit: string): readonly string[] {
  return EXACT_UNITS.test(unit) ? EXACT_FLAGS : [];
}

export interface Level {
  /** The name that `openCpu` and `TOKENFILTER_LEVEL` take. */
  readonly name: string;
  /** Its number in the C ABI, `TKF_LEVEL_…`. */
  readonly code: number;
  /** The compiler flags that switch it on. */
  readonly flags: readonly string[];
  /** Macros that a compiler defines for a processor of this level. */
  readonly macros: readonly string[];
}

const AVX2 = ["-mavx2", "-mfma", "-mf16c"];
const AVX512 = ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mprefer-vector-width=512"];
const AVX2_MACROS = ["__AVX2__", "__FMA__", "__F16C__"];
const AVX512_MACROS = ["__AVX512F__", "__AVX512BW__", "__AVX512DQ__", "__AVX512VL__"];

/** Flags of units that are compiled for a level: the loops that take the time. */
export const BODY_FLAGS: readonly string[] = ["-O3"];

/** Flags of the other units: contexts, checks of arguments, the filter's decisions. */
export const ENTRY_FLAGS: readonly string[] = ["-O2"];

/** Levels by architecture (Deno's name of it), lowest first, which is also the slowest to compile. */
export const LEVELS: { readonly [arch: string]: readonly Level[] } = {
  x86_64: [
    { name: "base", code: 0, flags: ["-msse4.2", "-mpopcnt"], macros: [] },
    { name: "avx2", code: 1, flags: AVX2, macros: AVX2_MACROS },
    { name: "avx512", code: 2, flags: [...AVX2, ...AVX512], macros: [...AVX2_MACROS, ...AVX512_MACROS] },
  ],
  aarch64: [{ name: "base", code: 0, flags: [], macros: [] }],
  wasm32: [{ name: "base", code: 0, flags: ["-msimd128", "-fignore-exceptions"], macros: [] }],
};

/** Architectures that a full build of the CUDA library holds; later ones run the code in PTX of compute_80. */
export const CUDA_ARCHS: readonly string[] = ["80", "86", "89", "90a", "100", "120"];

export const CUDA_FLAGS: readonly string[] = [
  "-std=c++17",
  "-O3",
  "-Xptxas=-v",
  "-Xcompiler=-fPIC,-fvisibility=hidden,-Wall",
];

/** Further flags for the nvcc that the sources are tuned for: another one may have other warnings. */
export const CUDA_STRICT_FLAGS: readonly string[] = ["-Werror=all-warnings"];

/** Flags of nvcc as a linker. */
export const CUDA_LINK_FLAGS: readonly string[] = [
  "-shared",
  "-cudart=static",
  "-Xlinker=--version-script=exports,--no-undefined",
  "-ldl",
];

/** Includes of the last text of each path: units share headers, which are asked for once for each of them. */
const known = new Map<string, { readonly text: string; readonly includes: readonly string[] }>();

/** Paths of the files of the project that a source includes itself, relative to {@linkcode KERNELS_URL}. */
function localIncludes(path: string, text: string): readonly string[] {
  const last = known.get(path);
  if (last?.text === text) return last.includes;
  const base = new URL(path, "file:///");
  const includes = Array.from(
    text.matchAll(/^[ \t]*#[ \t]*include[ \t]+"([^"]+)"/gm),
    ([, name]) => new URL(name!, base).pathname.slice(1),
  );
  known.set(path, { text, includes });
  return includes;
}

/** Paths of the translation units that a .def file names, relative to {@linkcode KERNELS_URL}. */
function unitsOf(path: string, text: string): string[] {
  const [, names = ""] = text.match(/^TKF_UNITS\(([^)]*)\)/) ?? [];
  return names.split(",").map((name) => path.replace(/[^/]*$/, name.trim()));
}

/**
 * A unit and all that it includes, directly or not, sorted. Files of the system are left out, and so are missing files,
 * which the compiler reports.
 *
 * @param missing Gets the paths of those that are not there.
 */
export function includesOf(sources: Sources, unit: string, missing?: Set<string>): string[] {
  const found = new Set<string>(), checks = new Set<string>();
  const visit = (path: string) => {
    const text = sources.get(path);
    if (text === undefined) missing?.add(path);
    if (text === undefined || found.has(path)) return;
    found.add(path);
    for (const name of localIncludes(path, text)) {
      if (path !== OPS || name.endsWith(".def")) visit(name);
      else checks.add(name);
    }
  };
  visit(unit);
  const isChecked = [...found].some((path) => sources.get(path)!.includes("#define TKF_CHECKS\n"));
  if (isChecked) checks.forEach(visit);
  return [...found].sort();
}

/** ABI version of the library that sources make. */
export const abiOf = (sources: Sources): number =>
  Number(sources.get("include/tokenfilter.h")!.match(/#define TKF_ABI_VERSION (\d+)/)![1]);

/** The npm package with the CPU library of a platform, such as `linux-x64`. */
export const packageOf = (platform: string): string => `@tokenfilter/native-${platform}`;

export interface LibrarySources {
  readonly units: readonly string[];
  /** Their texts, and those of all that they include. */
  readonly texts: Map<string, string>;
}

/**
 * Reads the sources of a library from disk, or from the network if the package is there.
 *
 * @param more Units next to its own.
 * @param read Gives the text of a source.
 * @throws {NativeLibraryError} If one cannot be read.
 */
export async function readSources(
  library: keyof typeof UNITS,
  more: readonly string[] = [],
  read: (path: string) => Promise<string> = readSource,
): Promise<LibrarySources> {
  const texts = new Map<string, string>();
  const isTest = more.some((path) => path.startsWith(TESTING));
  for (;;) {
    const lists = includesOf(texts, OPS).filter((path) => path !== OPS);
    const ops = lists.flatMap((path) => unitsOf(path, texts.get(path)!))
      .filter((path) => OP_UNITS[library].test(path));
    const units = [...UNITS[library], ...ops, ...more];
    const missing = new Set<string>();
    const found = new Set(units.flatMap((unit) => includesOf(texts, unit, missing)));
    if (!isTest) missing.forEach((path) => path.startsWith(TESTING) && missing.delete(path));
    if (missing.size === 0) {
      return { units, texts: new Map([...found].sort().map((path) => [path, texts.get(path)!])) };
    }
    await Promise.all([...missing].map(async (path) => texts.set(path, await read(path))));
  }
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
 * Names the state of a library's sources and flags, as a digest. It hashes the sources' texts, or only their address if
 * they are on the network: the address contains the version, so starting a program fetches nothing.
 *
 * @param texts The sources where they were read already.
 */
export async function sourceKey(library: keyof typeof UNITS, texts?: Sources): Promise<string> {
  const sources = KERNELS_URL.protocol === "file:"
    ? [...texts ?? (await readSources(library)).texts]
    : KERNELS_URL.href;
  const recipe = library === "cpu"
    ? [
      FLAGS,
      SHARED_FLAGS,
      BODY_FLAGS,
      ENTRY_FLAGS,
      EXACT_UNITS.source,
      EXACT_FLAGS,
      CPU_LINK_FLAGS,
      LEVELS,
    ]
    : [CUDA_FLAGS, CUDA_LINK_FLAGS];
  return (await sha256(JSON.stringify([sources, recipe]))).slice(0, 16);
}
