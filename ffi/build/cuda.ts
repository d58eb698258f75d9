/** Builds the CUDA library: one object a file, for all architectures, linked with the static runtime. */
import { NativeLibraryError } from "../../lib/errors.ts";
import type { LibraryManifest } from "../cache.ts";
import { findBuild } from "../library/library.ts";
import {
  CUDA_ARCHS,
  CUDA_FLAGS,
  CUDA_LINK_FLAGS,
  CUDA_STRICT_FLAGS,
  type LibrarySources,
  readSources,
} from "../library/sources.ts";
import { buildAlone } from "./alone.ts";
import { type BuildOptions, findCompiler, link } from "./command.ts";
import { ensureNvcc, isForDriver, oldestDriver, PINNED } from "./nvcc.ts";
import { buildObjects, type BuiltObject } from "./objects.ts";
import { type KernelResources, parseResources } from "./resources.ts";
import { type BuiltLibrary, storeLibrary } from "./store.ts";

/** @internal Notes of a build about the CUDA library. */
export interface CudaManifest extends LibraryManifest {
  readonly nvcc: string;
  /** The oldest driver that runs it. */
  readonly oldestDriver: string;
  /** Architectures whose code it holds, such as "90a". */
  readonly archs: readonly string[];
  /** Resources of each kernel on each architecture. */
  readonly kernels: readonly KernelResources[];
}

/** @internal Options of {@linkcode buildCuda}. */
export interface CudaBuildOptions extends BuildOptions {
  /** Architectures, of {@linkcode CUDA_ARCHS}; all where left out. */
  readonly archs?: readonly string[] | undefined;
  /**
   * CUDA version that the driver at hand serves, 1000 * major + 10 * minor: the library will run on it. By default, the
   * library runs on drivers of the version for which the compiler at hand builds.
   */
  readonly driver?: number;
}

/**
 * Builds `libtokenfilter_cuda`, unless the cache holds a build of these very sources with the architectures asked for.
 * nvcc comes from PATH, `CUDA_HOME`, or is fetched with pip. It needs no GPU, and neither does loading what it builds.
 *
 * @throws {RangeError} If an architecture is not known.
 * @throws {NativeLibraryError} If there is no nvcc whose code the driver runs, or no C++ compiler, or one of them
 * fails. With the pinned nvcc, a warning, local memory of a kernel, and products that wait for others are failures too.
 */
export async function buildCuda(options: CudaBuildOptions = {}): Promise<BuiltLibrary<CudaManifest>> {
  const { archs = CUDA_ARCHS, force = false, driver, onProgress = () => {} } = options;
  expectArchs(archs);
  const find = async () => {
    const cached = force ? undefined : await findBuild<CudaManifest>("cuda");
    return cached !== undefined && archs.every((arch) => cached.manifest.archs.includes(arch)) &&
        isForDriver(cached.manifest.nvcc, driver)
      ? cached
      : undefined;
  };
  const cached = await find();
  if (cached !== undefined) return cached;
  const sources = await readSources("cuda"), compiler = await findCompiler();
  const build = (work: string) =>
    storeLibrary("cuda", sources.texts, compiler, CUDA_FLAGS, async () => {
      const nvcc = await ensureNvcc({ archs, driver }, onProgress);
      const { objects, kernels } = await compileUnits(sources, { archs, compiler, nvcc, work }, options);
      onProgress("linking");
      const { bytes } = await link("the CUDA library", nvcc.command, [
        ...["-ccbin", compiler.command],
        ...objects.map(({ path }) => path),
        ...(nvcc.libraries === undefined ? [] : [`-L${nvcc.libraries}`]),
        ...CUDA_LINK_FLAGS,
      ], work);
      const { version } = nvcc;
      return { bytes, more: { nvcc: version, oldestDriver: oldestDriver(version), archs, kernels } };
    });
  // Another process may have built it meanwhile.
  return await buildAlone(async (work) => await find() ?? await build(work), { onProgress });
}

/** A compiler of kernels, and the architectures to compile for. */
interface CudaCompiler {
  readonly archs: readonly string[];
  /** The compiler of the host. */
  readonly compiler: Awaited<ReturnType<typeof findCompiler>>;
  readonly nvcc: Awaited<ReturnType<typeof ensureNvcc>>;
  /** A folder that serves to compile in. */
  readonly work: string;
}

/** Compiles units, and checks what nvcc reports. @throws {NativeLibraryError} As {@linkcode buildCuda}. */
async function compileUnits(
  { texts, units }: LibrarySources,
  { archs, compiler, nvcc, work }: CudaCompiler,
  { force = false, onProgress = () => {} }: BuildOptions,
): Promise<{ readonly objects: readonly BuiltObject[]; readonly kernels: readonly KernelResources[] }> {
  const warn = nvcc.version === PINNED ? undefined : onProgress;
  const flags = warn === undefined ? [...CUDA_FLAGS, ...CUDA_STRICT_FLAGS] : CUDA_FLAGS;
  const args = ["-ccbin", compiler.command, ...flags, ...archFlags(archs), "-x", "cu", "-c"];
  const objects = await buildObjects(
    texts,
    units.map((unit) => ({ unit, args: [...args, unit] })),
    {
      title: `${archs.map((arch) => `sm_${arch}`).join(", ")} with nvcc ${nvcc.version}`,
      key: { nvcc: nvcc.version, compiler: compiler.version, flags, archs },
      command: nvcc.command,
    },
    work,
    { force, onProgress },
  );
  const kernels = objects.flatMap(({ output }) => parseResources(output));
  checkLocalMemory(kernels, warn);
  const output = objects.map(({ output }) => output).join("\n");
  checkLosses(output, warn);
  const warnings = output.split("\n").filter((line) => /\bwarning\b/i.test(line));
  if (warnings.length > 0) {
    onProgress(`warning: nvcc warns ${warnings.length} times, first: ${warnings[0]}`);
  }
  return { objects, kernels };
}

/**
 * Compiles the kernels of ops for all architectures, without a library of them, with the checks of {@linkcode buildCuda}.
 *
 * @param ops Folders of `kernels/`.
 * @returns Paths of the objects.
 * @throws {NativeLibraryError} As {@linkcode buildCuda}.
 */
export async function compileOps(ops: readonly string[], options: BuildOptions = {}): Promise<string[]> {
  const { units, texts } = await readSources("cuda"), archs = CUDA_ARCHS, compiler = await findCompiler();
  const own = units.filter((unit) => ops.some((op) => unit.startsWith(`${op}/`)));
  const nvcc = await ensureNvcc({ archs }, options.onProgress ?? (() => {}));
  const sources = { texts, units: own };
  return await buildAlone(async (work) => {
    const { objects } = await compileUnits(sources, { archs, compiler, nvcc, work }, options);
    return objects.map(({ path }) => path);
  }, options);
}

/** @throws {RangeError} If an architecture is not known, or there is none. */
export function expectArchs(archs: readonly string[]): void {
  const unknown = archs.find((arch) => !CUDA_ARCHS.includes(arch));
  if (unknown !== undefined || archs.length === 0) {
    const known = CUDA_ARCHS.join(", ");
    throw new RangeError(
      `Cannot build the CUDA library: found architecture "${unknown ?? ""}", expected some of ${known}`,
    );
  }
}

/** Code for each architecture; with sm_80 also PTX, which later devices compile for themselves. */
function archFlags(archs: readonly string[]): string[] {
  return archs.flatMap((arch) => [
    "-gencode",
    `arch=compute_${arch},code=${arch === "80" ? "[sm_80,compute_80]" : `sm_${arch}`}`,
  ]);
}

/**
 * A kernel is slow without a warning if its registers do not suffice, or if the compiler cannot resolve the index of an
 * array. Both are an error, or with another nvcc than ours a warning.
 */
function checkLocalMemory(kernels: readonly KernelResources[], warn?: (message: string) => void): void {
  const slow = kernels.filter(({ spillBytes, stackBytes }) => spillBytes > 0 || stackBytes > 0);
  if (slow.length === 0) return;
  const list = slow.map(({ symbol, arch, spillBytes, stackBytes, registers }) =>
    `${symbol} for ${arch}: ${spillBytes} bytes of spills with ${registers} registers, ${stackBytes} of arrays`
  );
  complain(`kernels use local memory:\n${list.join("\n")}`, warn);
}

/** Products that wait for each other, since ptxas could not prove them independent: it reports them as information. */
function checkLosses(output: string, warn?: (message: string) => void): void {
  const losses = output.split("\n").filter((line) => line.includes("Potential Performance Loss"));
  if (losses.length > 0) complain(`kernels lose speed:\n${losses.join("\n")}`, warn);
}

/** Reports a fault that makes kernels slow. @throws {NativeLibraryError} If there is no way to warn. */
function complain(message: string, warn?: (message: string) => void): void {
  if (warn === undefined) throw new NativeLibraryError(`Cannot build the CUDA library: ${message}`);
  warn(`warning: ${message}`);
}
