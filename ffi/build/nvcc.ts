/** Finds CUDA's compiler, or fetches the pinned one from the Python package index that pip is set up with. */
import { cacheDir } from "../../lib/cache.ts";
import { NativeLibraryError } from "../../lib/errors.ts";
import type { PinnedPackage } from "../../lib/pip.ts";
import { run } from "./command.ts";
import { fetchFolder } from "./wheel.ts";

/** Packages that make a compiler: nvcc, its code generator, headers, the static runtime, a disassembler. */
const PACKAGES: readonly PinnedPackage[] = ([
  [
    ...["nvidia-cuda-nvcc", "13.0.88"],
    "56fe502eb77625a12f25172caa3cdddb4e4c8ba2c8c17dba44b164761b380f03",
    "c7ff28f86a24effdc6c034fa15230c549a273e4771b10a7fec14996f8cf3307f",
  ],
  [
    ...["nvidia-nvvm", "13.0.88"],
    "c5f41ffeb6466944a026dfa5317d7d85355c119bbec279205d22f1869d1054e0",
    "c4376a291d72d22a315d9d2f69bdae8f8cd83a627f75bad395cee49a0fe65dc1",
  ],
  [
    ...["nvidia-cuda-crt", "13.0.88"],
    "2c8043c7c9e02492716426e9919fc78d2c5b3b2a7a768a88e952676b08aa55a4",
    "ee2ea2a97073e02ee62bb27841f437332be2c248e3eac013df07997ada39c003",
  ],
  [
    ...["nvidia-cuda-runtime", "13.0.88"],
    "422a38f7c739ecbdd3a4b6ec7ed0a1d74db43d8e9bc26685f3d845638922b178",
    "8ba16a33998ee3ee2bf11c8f13e36e3ff86a1d6ad165ffeee863d6eabd0b5f67",
  ],
  [
    ...["nvidia-cuda-cccl", "13.0.85"],
    "e0da7ad981f3a8aff08241b5bfc1af868742a63e2762f53a5171c492ef242649",
    "6f0203e29fed809ee2b7fe9b1344df66ecab990c37d6a2e0e189b26d6c97ed7c",
  ],
  [ // the first that is a package of its own; it reads the output of 13.0
    ...["nvidia-cuda-cuobjdump", "13.2.78"],
    "394087411405b846bf43aa52ca2ff603bbe18b3b8a1257cda0903e23c17bdbf3",
    "c985f2ac62cc6b41cb3c612c4b8d117f4c30ff5c1a2f9e23ca3350e0090a85b6",
  ],
  [
    ...["nvidia-cuda-nvdisasm", "13.2.78"],
    "b4ebcd3c5046bf8039ac52675b9dbefd843600969649ecaab0a42b0713a61dae",
    "c338282695eca43de237929c5e3963d8d04f61d578d40f01bd04aca2bc29c233",
  ],
] as [string, string, string, string][]).map(([name, version, ...sha256]) => ({ name, version, sha256 }));
/** Version of the nvcc that is fetched, for which kernels are tuned. */
export const PINNED = "13.0.88";
/** The first release that supports sm_100 and sm_120, and the first that this project's sources are for. */
const OLDEST_OF_BLACKWELL = "12.8", OLDEST = "12.0";

interface Nvcc {
  /** Path, or a name on PATH. */
  readonly command: string;
  readonly version: string;
  readonly source: string;
  /** Folder of the static runtime, if the compiler does not find it itself. */
  readonly libraries: string | undefined;
  /** The disassembler that belongs to it, if it is there. */
  readonly cuobjdump: string | undefined;
}

/** The oldest driver for Linux that runs the output of a release of nvcc. Source: CUDA's release notes, table 3. */
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

interface NvccWants {
  /** Architectures, such as "90a". */
  readonly archs: readonly string[];
  /** CUDA version that the driver serves, 1000 * major + 10 * minor; any where it is not known. */
  readonly driver?: number | undefined;
}

/** A release as a number, 1000 * major + 10 * minor. */
function numberOf(version: string): number {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  return 1000 * major + 10 * minor;
}

/** Whether a driver runs the output of a release of nvcc: that of its own major version, later minor ones included. */
export function isForDriver(version: string, driver: number | undefined): boolean {
  return driver === undefined || 1000 * Number.parseInt(version) <= driver;
}

function pinnedDir(): string {
  return `${cacheDir()}/nvcc-${PINNED}-${Deno.build.os}-${Deno.build.arch}`;
}

/** Why a compiler does not do; undefined where it does. */
function whyNot({ version }: Nvcc, { archs, driver }: NvccWants): string | undefined {
  const oldest = archs.some((arch) => Number.parseInt(arch) >= 100) ? OLDEST_OF_BLACKWELL : OLDEST;
  if (numberOf(version) < numberOf(oldest)) return `expected ${oldest} or later`;
  return isForDriver(version, driver) ? undefined : "too new for the driver";
}

/** Where a compiler may be, in the order in which it is looked for: commands, and their places in words. */
function placesOf(driver: number | undefined): [command: string, source: string][] {
  const home = Deno.env.get("CUDA_HOME"), usual = ["/usr/local/cuda"];
  if (driver !== undefined) usual.push(`/usr/local/cuda-${Math.floor(driver / 1000)}`);
  return [
    ["nvcc", "PATH"],
    ...(home ? [[`${home}/bin/nvcc`, "CUDA_HOME"] as [string, string]] : []),
    ...usual.map((folder): [string, string] => [`${folder}/bin/nvcc`, folder]),
  ];
}

/** The compiler that `TOKENFILTER_NVCC` names, which is taken or refused. */
async function probeNamed(wants: NvccWants): Promise<Nvcc | undefined> {
  const command = Deno.env.get("TOKENFILTER_NVCC");
  if (!command) return undefined;
  const own = await probe(command, "TOKENFILTER_NVCC");
  const reason = own === undefined ? "not an nvcc that runs" : whyNot(own, wants);
  if (reason === undefined) return own;
  const found = `"${command}"${own ? ` of ${own.version}` : ""}`;
  throw new NativeLibraryError(`Cannot build the CUDA library: found TOKENFILTER_NVCC ${found}, ${reason}`);
}

/**
 * nvcc from `TOKENFILTER_NVCC`. Otherwise the first that fits the architectures and the driver, from PATH, `CUDA_HOME`,
 * /usr/local/cuda, or the folder of NVIDIA's packages for the driver's major version. Otherwise the pinned one, fetched
 * with pip (about 90 MB) where it is not in the cache.
 *
 * @throws {NativeLibraryError} If none fits and none can be fetched; the message names those that were found, and why each
 * does not fit.
 */
export async function ensureNvcc(
  wants: NvccWants,
  onProgress: (message: string) => void = () => {},
): Promise<Nvcc> {
  const named = await probeNamed(wants), passed: string[] = [], { driver } = wants;
  if (named !== undefined) return named;
  for (const [command, source] of placesOf(driver)) {
    const own = await probe(command, source), reason = own && whyNot(own, wants);
    if (own === undefined) continue;
    if (reason === undefined) return own;
    passed.push(`nvcc ${own.version} in ${source} (${reason})`);
  }
  const found = passed.join(", ") || "no nvcc in PATH, CUDA_HOME or /usr/local/cuda";
  if (!isForDriver(PINNED, driver)) {
    const major = Math.floor(driver! / 1000), minor = Math.floor(driver! % 1000 / 10);
    throw new NativeLibraryError(
      `Cannot build the CUDA library: found ${found}, and a driver for CUDA ${major}.${minor}, ` +
        `expected nvcc of release ${major}, which TOKENFILTER_NVCC may name (see docs/guides/gpu.md; pip has none whole), ` +
        `or a driver of ${oldestDriver(PINNED)} or later`,
    );
  }
  const root = `${pinnedDir()}/nvidia/cu13`;
  const cached = await probe(`${root}/bin/nvcc`, "the cache", root);
  if (cached !== undefined) return cached;
  if (Deno.build.os !== "linux") {
    throw new NativeLibraryError(
      `Cannot build the CUDA library: found ${Deno.build.os}, expected Linux, for which CUDA is made`,
    );
  }
  onProgress(`fetching nvcc ${PINNED} with pip${passed.length > 0 ? `, since it found ${found}` : ""}`);
  const runs = async () => await probe(`${root}/bin/nvcc`, "the cache", root) !== undefined;
  const trouble = await fetchFolder(PACKAGES, pinnedDir(), runs);
  if (trouble !== undefined) {
    throw new NativeLibraryError(
      `Cannot build the CUDA library: found ${found}, and pip cannot fetch one: ${trouble}`,
    );
  }
  const fetched = await probe(`${root}/bin/nvcc`, "pip", root);
  if (fetched !== undefined) return fetched;
  throw new NativeLibraryError(
    `Cannot build the CUDA library: found no nvcc that runs in "${root}", which pip has just filled`,
  );
}
