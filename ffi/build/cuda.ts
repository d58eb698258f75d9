/** Builds the CUDA library: one object a file, for all architectures, linked with the static runtime. */
import { NativeLibraryError } from "../../lib/errors.ts";
import { cacheDir, isMissing, prepareCacheDir, writeAtomically } from "../cache.ts";
import { sha256 } from "../sources.ts";
import { findCompiler, gitHash, run } from "./command.ts";
import { ensureNvcc, oldestDriver, PINNED } from "./nvcc.ts";
import { buildObjects } from "./objects.ts";
import { type KernelResources, parseResources } from "./resources.ts";
import { readCudaSources, type Sources, unitKey, unitsOf } from "./units.ts";

/** Architectures that a full build holds; later ones run the code in PTX of compute_80. */
export const CUDA_ARCHS: readonly string[] = ["80", "86", "89", "90a", "100", "120"];

const FLAGS: readonly string[] = [
  "-std=c++17",
  "-O3",
  "-Xptxas=-v",
  "-Xcompiler=-fPIC,-fvisibility=hidden,-Wall",
  "-Werror=all-warnings",
];
const LINK_FLAGS: readonly string[] = [
  "-shared",
  "-cudart=static",
  "-Xlinker=--version-script=exports,--no-undefined",
  "-ldl",
];

/** What a build notes of the CUDA library. */
export interface CudaManifest {
  /** ABI version, `TKF_ABI_VERSION`. */
  readonly abi: number;
  /** Commit of the sources, where they lie in a git checkout; with "-dirty" where kernels/ had changes. */
  readonly git: string | null;
  /** Version of nvcc, and of the host's compiler. */
  readonly nvcc: string;
  readonly compiler: string;
  /** The oldest driver that runs it. */
  readonly oldestDriver: string;
  readonly flags: readonly string[];
  /** Architectures whose code it holds, such as "90a". */
  readonly archs: readonly string[];
  /** File name of the library, in the same folder. */
  readonly library: string;
  /** SHA-256 of the library. */
  readonly sha256: string;
  /** Resources of each kernel on each architecture. */
  readonly kernels: readonly KernelResources[];
  readonly buildMs: number;
}

/** Options of {@linkcode buildCuda}. */
export interface CudaOptions {
  /** Architectures, of {@linkcode CUDA_ARCHS}; all where left out. */
  readonly archs?: readonly string[];
  /** Compile everything again. */
  readonly force?: boolean;
  /** Is told what goes on, in short lines, only where something has to be done. */
  readonly onProgress?: (message: string) => void;
}

/** A CUDA library that is ready to load. */
export interface CudaLibrary {
  /** Its path. */
  readonly path: string;
  readonly manifest: CudaManifest;
  /** Whether it was there already. */
  readonly cached: boolean;
}

/**
 * Path of the manifest of the CUDA library that belongs to the present sources.
 *
 * @throws {NativeLibraryError} If the sources lie on the network.
 */
export async function cudaManifestPath(sources?: Sources): Promise<string> {
  sources ??= await readCudaSources();
  const keys = await Promise.all(unitsOf(sources, "cuda").map((unit) => unitKey(sources, unit, 0)));
  const digest = await sha256(JSON.stringify([keys, FLAGS, LINK_FLAGS]));
  return `${cacheDir()}/cuda-${digest.slice(0, 16)}-${Deno.build.os}-${Deno.build.arch}.json`;
}

/**
 * Builds `libtokenfilter_cuda`, unless the cache holds a build of these very sources with the architectures asked for.
 * nvcc comes from PATH, `CUDA_HOME`, or is fetched with pip. It needs no GPU, and neither does loading what it builds.
 *
 * @throws {NativeLibraryError} If there is no nvcc or no C++ compiler, one of them fails or warns, or (with the pinned
 * nvcc) a kernel spills registers, or has its products one after the other.
 */
export async function buildCuda(options: CudaOptions = {}): Promise<CudaLibrary> {
  const { archs = CUDA_ARCHS, force = false, onProgress = () => {} } = options;
  const unknown = archs.find((arch) => !CUDA_ARCHS.includes(arch));
  if (unknown !== undefined || archs.length === 0) {
    throw new NativeLibraryError(
      `Cannot build the CUDA library: found architecture "${unknown ?? ""}", expected some of ${
        CUDA_ARCHS.join(", ")
      }`,
    );
  }
  const sources = await readCudaSources();
  const noted = await cudaManifestPath(sources);
  const cached = force ? undefined : await cachedCuda(noted);
  if (cached !== undefined && archs.every((arch) => cached.manifest.archs.includes(arch))) return cached;
  const started = performance.now();
  const compiler = await findCompiler();
  await prepareCacheDir();
  const nvcc = await ensureNvcc(onProgress);
  const host = ["-ccbin", compiler.command];
  const work = await Deno.makeTempDir({ prefix: "tokenfilter-build-" });
  try {
    const objects = await buildObjects(
      sources,
      unitsOf(sources, "cuda"),
      {
        compiler: `nvcc ${nvcc.version} for ${archs.join(", ")}`,
        key: { nvcc: nvcc.version, compiler: compiler.version, FLAGS, archs },
        command: nvcc.command,
        args: (unit) => [...host, ...FLAGS, ...archFlags(archs), "-x", "cu", "-c", unit],
      },
      work,
      { force, onProgress },
    );
    const kernels = objects.flatMap(({ said }) => parseResources(said));
    const warn = nvcc.version === PINNED ? undefined : onProgress;
    checkSpills(kernels, warn);
    checkLosses(objects.map(({ said }) => said).join("\n"), warn);
    onProgress("linking");
    await Deno.writeTextFile(`${work}/exports`, "{ global: tkf_*; local: *; };\n");
    const linked = await run(nvcc.command, [
      ...host,
      ...objects.map(({ path }) => path),
      ...(nvcc.libraries === undefined ? [] : [`-L${nvcc.libraries}`]),
      ...LINK_FLAGS,
      "-o",
      "library",
    ], { cwd: work });
    if (!linked.success) {
      throw new NativeLibraryError(
        `Cannot build the CUDA library: linking failed:\n${linked.stdout}${linked.stderr}`,
      );
    }
    const library = await Deno.readFile(`${work}/library`);
    const digest = await sha256(library);
    const name = `libtokenfilter_cuda-${digest.slice(0, 16)}.so`;
    const path = `${cacheDir()}/${name}`;
    await writeAtomically(path, library);
    const manifest: CudaManifest = {
      abi: Number(sources.get("include/tokenfilter.h")!.match(/#define TKF_ABI_VERSION (\d+)/)?.[1]),
      git: await gitHash(),
      nvcc: nvcc.version,
      compiler: compiler.version,
      oldestDriver: oldestDriver(nvcc.version),
      flags: FLAGS,
      archs,
      library: name,
      sha256: digest,
      kernels,
      buildMs: Math.round(performance.now() - started),
    };
    await writeAtomically(noted, JSON.stringify(manifest, null, 2) + "\n");
    return { path, manifest, cached: false };
  } finally {
    await Deno.remove(work, { recursive: true });
  }
}

/** Code for each architecture; with sm_80 also PTX, which later devices compile for themselves. */
function archFlags(archs: readonly string[]): string[] {
  return archs.flatMap((arch) => [
    "-gencode",
    `arch=compute_${arch},code=${arch === "80" ? "[sm_80,compute_80]" : `sm_${arch}`}`,
  ]);
}

/** A kernel whose registers do not suffice is slow in silence: an error, or with another nvcc than ours a warning. */
function checkSpills(kernels: readonly KernelResources[], warn?: (message: string) => void): void {
  const spilled = kernels.filter(({ spillBytes }) => spillBytes > 0);
  if (spilled.length === 0) return;
  const list = spilled.map(({ symbol, arch, spillBytes, registers }) =>
    `${symbol} for ${arch}: ${spillBytes} bytes with ${registers} registers`
  );
  const message = `kernels spill registers to memory:\n${list.join("\n")}`;
  if (warn === undefined) throw new NativeLibraryError(`Cannot build the CUDA library: ${message}`);
  warn(`warning: ${message}`);
}

/** What ptxas tells as mere information: products that wait for each other, which it could not prove apart. */
function checkLosses(said: string, warn?: (message: string) => void): void {
  const losses = said.split("\n").filter((line) => line.includes("Potential Performance Loss"));
  if (losses.length === 0) return;
  const message = `kernels lose speed:\n${losses.join("\n")}`;
  if (warn === undefined) throw new NativeLibraryError(`Cannot build the CUDA library: ${message}`);
  warn(`warning: ${message}`);
}

/** The library that a manifest names, if both are there and agree. */
export async function cachedCuda(noted: string): Promise<CudaLibrary | undefined> {
  try {
    const manifest: CudaManifest = JSON.parse(await Deno.readTextFile(noted));
    const path = `${cacheDir()}/${manifest.library}`;
    if (await sha256(await Deno.readFile(path)) !== manifest.sha256) return undefined;
    return { path, manifest, cached: true };
  } catch (error) {
    if (isMissing(error) || error instanceof SyntaxError) return undefined;
    throw error;
  }
}
