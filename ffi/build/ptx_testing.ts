/**
 * Builds the CUDA library to run without a GPU, for tests: nvcc compiles the kernels to PTX, and the interpreter of
 * `kernels/testing/ptx` takes the place of the CUDA runtime and of the driver. The result is both the library and the driver.
 */
import { cacheDir, ifThere, writeAtomically } from "../../lib/cache.ts";
import { sha256 } from "../../lib/sha256.ts";
import { LIBRARY_SUFFIX } from "../cache.ts";
import { type LibrarySources, readSources } from "../library/sources.ts";
import { buildAlone } from "./alone.ts";
import { type BuildOptions, findCompiler, readMade, runCompiler } from "./command.ts";
import { ensureNvcc } from "./nvcc.ts";
import { buildObjects } from "./objects.ts";

/** Architectures whose PTX is interpreted: that of every device, and that with wgmma and TMA. */
export const PTX_ARCHS = ["80", "90a"] as const;
/** An architecture of {@linkcode PTX_ARCHS}. */
export type PtxArch = typeof PTX_ARCHS[number];

const INTERPRETER = "testing/ptx/";
const INTERPRETER_UNITS: readonly string[] = [
  "alu",
  "decode",
  "hopper",
  "memory",
  "module",
  "numbers",
  "parse",
  "run",
  "runtime",
  "warp",
]
  .map((name) => `${INTERPRETER}${name}.cpp`);

/** Lines of the source in the PTX, which faults name, and its text as it is. */
const KERNEL_FLAGS = ["-std=c++17", "-O3", "-lineinfo", "--no-compress"];
/** The same results on every machine; loops over lanes become vectors. */
const HOST_FLAGS = ["-fPIC", "-fvisibility=hidden", "-Wall"];
const INTERPRETER_FLAGS = [
  "-O3",
  "-ffp-contract=off",
  "-fno-math-errno",
  "-fno-trapping-math",
  "-fno-strict-aliasing",
];

/** Flags for the instructions of this machine, and what tells it from others. */
async function machineFlags(): Promise<{ flags: readonly string[]; key: string }> {
  if (Deno.build.arch !== "x86_64") return { flags: [], key: "" };
  const [, has = ""] = (await ifThere(Deno.readTextFile("/proc/cpuinfo")))?.match(/^flags\s*:(.*)$/m) ?? [];
  return { flags: ["-march=native"], key: has };
}

/** Reads the sources of the library and of the interpreter. */
export const readPtx = (): Promise<LibrarySources> => readSources("cuda", INTERPRETER_UNITS);

/**
 * Builds the library over the interpreter, unless the cache holds it. Its name is that of its content, so that one that is
 * loaded is never overwritten. @returns Its path.
 *
 * @throws {NativeLibraryError} If there is no nvcc and none can be fetched, no compiler, or one of them fails.
 */
export async function buildPtx(arch: PtxArch, options: BuildOptions = {}): Promise<string> {
  const { onProgress = () => {} } = options;
  const sources = await readPtx(), compiler = await findCompiler();
  const nvcc = await ensureNvcc({ archs: [arch] }, onProgress), machine = await machineFlags();
  const forHost = (flags: readonly string[]) => `-Xcompiler=${[...HOST_FLAGS, ...flags].join(",")}`;
  const kernels = [
    ...KERNEL_FLAGS,
    "-gencode",
    `arch=compute_${arch},code=compute_${arch}`,
    forHost([]),
    "-x",
    "cu",
  ];
  const interpreter = ["-std=c++17", forHost([...INTERPRETER_FLAGS, ...machine.flags])];
  const jobs = sources.units.map((unit) => ({
    unit,
    args: [
      ...["-ccbin", compiler.command, ...(unit.startsWith(INTERPRETER) ? interpreter : kernels)],
      ...["-c", unit],
    ],
  }));
  return await buildAlone(async (work) => {
    const objects = (await buildObjects(
      sources.texts,
      jobs,
      {
        title: `PTX of compute_${arch} with nvcc ${nvcc.version}, and its interpreter`,
        key: { nvcc: nvcc.version, compiler: compiler.version, machine: machine.key },
        command: nvcc.command,
      },
      work,
      options,
    )).map(({ path }) => path);
    const digest = await sha256(objects.map((path) => path.replace(/.*\//, "")).join(" "));
    const path = `${cacheDir()}/libtokenfilter_ptx${arch}-${digest.slice(0, 16)}.${LIBRARY_SUFFIX}`;
    if (await ifThere(Deno.stat(path)) !== undefined) return path;
    // Kernels ask for the driver by this name.
    const named = ["-Wl,-soname,libcuda.so.1", "-Wl,--no-undefined"];
    await runCompiler("the CUDA library over the interpreter", compiler.command, [
      ...[...compiler.args, "-shared", "-pthread", ...named, "-o", "library", ...objects, "-ldl", "-lm"],
    ], { cwd: work });
    await writeAtomically(path, await readMade("the library", compiler.command, `${work}/library`));
    return path;
  }, options);
}

/**
 * Variables by which a process opens the CUDA library over the interpreter, built where it is not.
 *
 * @param arch One of {@linkcode PTX_ARCHS}; `TKF_PTX_ARCH`, else sm_80, by default.
 * @throws {RangeError} If it is another.
 */
export async function ptxVariables(
  arch = Deno.env.get("TKF_PTX_ARCH") || "80",
  onProgress?: (message: string) => void,
): Promise<Record<string, string>> {
  if (!PTX_ARCHS.includes(arch as PtxArch)) {
    throw new RangeError(`Cannot test PTX of "${arch}": expected one of ${PTX_ARCHS.join(", ")}`);
  }
  const library = await buildPtx(arch as PtxArch, { onProgress });
  return {
    TKF_PTX_ARCH: arch,
    TOKENFILTER_TEST_DEVICE: "ptx",
    TOKENFILTER_CUDA_LIBRARY: library,
    TOKENFILTER_CUDA_DRIVER: library,
    TOKENFILTER_CUBLASLT: "none",
    TOKENFILTER_GPU_TESTED: "none",
  };
}
