/** Finds CUDA's compiler, or fetches the pinned one from the Python package index that pip is set up with. */
import { cacheDir, isMissing, prepareCacheDir } from "../../lib/cache.ts";
import { NativeLibraryError } from "../../lib/errors.ts";
import { run } from "./command.ts";

/** Packages that make a compiler: nvcc, its code generator, headers, the static runtime, a disassembler. */
const PACKAGES: readonly string[] = [
  "nvidia-cuda-nvcc==13.0.88",
  "nvidia-nvvm==13.0.88",
  "nvidia-cuda-crt==13.0.88",
  "nvidia-cuda-runtime==13.0.88",
  "nvidia-cuda-cccl==13.0.85",
  "nvidia-cuda-cuobjdump==13.2.78", // the first that is a package of its own; it reads what 13.0 writes
  "nvidia-cuda-nvdisasm==13.2.78",
];
/** Version of the nvcc that is fetched, for which kernels are tuned. */
export const PINNED = "13.0.88";
/** The first release that knows sm_100 and sm_120. */
const OLDEST: readonly [major: number, minor: number] = [12, 8];

/** A compiler for CUDA that runs. */
export interface Nvcc {
  /** Path, or a name on PATH. */
  readonly command: string;
  /** Such as "13.0.88". */
  readonly version: string;
  /** Where it was found. */
  readonly source: string;
  /** Folder of the static runtime, where the compiler does not know it by itself. */
  readonly libraries: string | undefined;
  /** The disassembler that belongs to it, if it is there. */
  readonly cuobjdump: string | undefined;
}

/** The oldest driver for Linux that runs what a release of nvcc builds. Source: CUDA's release notes, table 3. */
export function oldestDriver(version: string): string {
  return Number(version.split(".")[0]) >= 13 ? "580.65.06" : "525.60.13";
}

async function probe(command: string, source: string, root?: string): Promise<Nvcc | undefined> {
  const { success, stdout } = await run(command, ["--version"]);
  const version = stdout.match(/release [\d.]+, V([\d.]+)/)?.[1];
  if (!success || version === undefined) return undefined;
  const beside = command.includes("/")
    ? `${command.slice(0, command.lastIndexOf("/"))}/cuobjdump`
    : "cuobjdump";
  const cuobjdump = (await run(beside, ["--version"])).success ? beside : undefined;
  return { command, version, source, libraries: root && `${root}/lib`, cuobjdump };
}

function isNewEnough({ version }: Nvcc): boolean {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  return major > OLDEST[0] || (major === OLDEST[0] && minor >= OLDEST[1]);
}

/** Folder of the fetched compiler. */
function pinnedDir(): string {
  return `${cacheDir()}/nvcc-${PINNED}-${Deno.build.os}-${Deno.build.arch}`;
}

/**
 * nvcc from PATH, from `CUDA_HOME` (where it is not set, from /usr/local/cuda), or the pinned one, fetched with pip (about 90 MB) where it is not in the cache.
 *
 * @throws {NativeLibraryError} If there is none and none can be fetched, or the one in PATH or CUDA_HOME is too old.
 */
export async function ensureNvcc(onProgress: (message: string) => void = () => {}): Promise<Nvcc> {
  const home = Deno.env.get("CUDA_HOME");
  const own = await probe("nvcc", "PATH") ??
    (home ? await probe(`${home}/bin/nvcc`, "CUDA_HOME") : undefined);
  if (own !== undefined) {
    if (isNewEnough(own)) return own;
    throw new NativeLibraryError(
      `Cannot build the CUDA library: found nvcc ${own.version} in ${own.source}, ` +
        `expected ${OLDEST.join(".")} or later; ` +
        "take it out of PATH and CUDA_HOME to have a newer one fetched",
    );
  }
  const usual = home === undefined ? await probe("/usr/local/cuda/bin/nvcc", "/usr/local/cuda") : undefined;
  if (usual !== undefined && isNewEnough(usual)) return usual;
  const root = `${pinnedDir()}/nvidia/cu13`;
  const cached = await probe(`${root}/bin/nvcc`, "the cache", root);
  if (cached !== undefined) return cached;
  if (Deno.build.os !== "linux") {
    throw new NativeLibraryError(
      `Cannot build the CUDA library: found ${Deno.build.os}, expected Linux, for which CUDA is made`,
    );
  }
  await prepareCacheDir();
  onProgress(`fetching nvcc ${PINNED} with pip`);
  const work = await Deno.makeTempDir({ dir: cacheDir(), prefix: ".nvcc-" });
  try {
    const { success, stderr } = await run("python3", [
      ...["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-compile"],
      ...["--only-binary", ":all:", "--retries", "2", "--timeout", "30", "--target", work],
      ...PACKAGES,
    ]);
    if (!success) {
      throw new NativeLibraryError(
        "Cannot build the CUDA library: found no nvcc in PATH or CUDA_HOME, and pip cannot fetch one: " +
          (stderr.trim().split("\n").pop() || "failed"),
      );
    }
    await Deno.remove(pinnedDir(), { recursive: true }).catch((error) => {
      if (!isMissing(error)) throw error;
    });
    await Deno.rename(work, pinnedDir());
  } finally {
    await Deno.remove(work, { recursive: true }).catch(() => {});
  }
  const fetched = await probe(`${root}/bin/nvcc`, "pip", root);
  if (fetched !== undefined) return fetched;
  throw new NativeLibraryError(
    `Cannot build the CUDA library: found no nvcc that runs in "${root}", which pip has just filled`,
  );
}
