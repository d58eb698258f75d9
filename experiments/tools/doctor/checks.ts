/** Parts that a machine may lack: each check calls the code that uses the part. */
import { buildArchOf, openDriver } from "../../../ffi/cuda/mod.ts";
import { ensureBlas } from "../../../ffi/build/blas.ts";
import { findCompiler, run } from "../../../ffi/build/command.ts";
import { ensureNvcc } from "../../../ffi/build/nvcc.ts";
import { cpuLevels, openCpu } from "../../../ffi/mod.ts";
import { CUDA_ARCHS } from "../../../ffi/sources.ts";
import type { Backend } from "../../../lib/backend.ts";
import { cacheDir, prepareCacheDir } from "../../../lib/cache.ts";
import { NativeLibraryError } from "../../../lib/errors.ts";
import { scoreSequence } from "../../../lib/eval/mod.ts";
import { endpointOf, loadModel } from "../../../lib/model/mod.ts";
import { reasonOf } from "../../../lib/pip.ts";
import { findChromium } from "../../../lib/plot/mod.ts";
import { ReferenceBackend } from "../../../lib/reference/mod.ts";
import { readJson } from "../../commands/cli/files.ts";
import { readStdFlags } from "../../commands/cli/machine/deno.ts";
import { describeDriver } from "../gpu/driver.ts";
import { ensureJupyter } from "../notebooks/jupyter.ts";

/** A part that may be missing. */
export interface Check {
  readonly name: string;
  /** Its use. Left out: everything needs it. */
  readonly use?: string;
  /** A command that helps where it is missing. */
  readonly fix: string;
  /** Whether it asks a host. */
  readonly online?: true;
  /** @returns A description. @throws {Error} If it is missing; the message has the reason. */
  look(): string | Promise<string>;
}

/** The part is missing, for the reason in the message. */
class Missing extends Error {}

/** The oldest Deno that the tasks run on. */
const OLDEST_DENO = [2, 9];
/** Time that a host or a package index may take. */
const PATIENCE_MS = 8000;
/** How far losses of the self-test may be from those of transformers in float64, in nats: as the tests of the backends. */
const LOSS_BAR = 1.5e-5;
const GOLDEN = new URL("../../../lib/model/testdata/tiny_golden.json", import.meta.url);

/** For finders that fetch missing parts: they call it first. */
const notHere = (what: string) => () => {
  throw new Missing(`found no ${what}`);
};

export function checkDeno(version: string): string {
  const [major = 0, minor = 0] = version.split(".").map(Number),
    [most, least] = OLDEST_DENO as [number, number];
  if (major === most && minor >= least) return version;
  throw new Missing(`found ${version}, expected ${OLDEST_DENO.join(".")} or a later 2`);
}

const pythonName = () => Deno.env.get("TOKENFILTER_PYTHON") || "python3";

/** The output of a Python script. */
async function askPython(code: string, ...args: string[]): Promise<string> {
  const { success, stdout, stderr } = await run(pythonName(), ["-c", code, ...args]);
  if (success) return stdout.trim();
  throw new Missing(`found no ${pythonName()} that runs: ${reasonOf(stderr) ?? "it says nothing"}`);
}

const VERSIONS = `
import importlib.metadata as m, sys
def version(name):
    try: return name + " " + m.version(name)
    except m.PackageNotFoundError: return "no " + name
print(*map(version, sys.argv[1:]), sep=", ")`;

/** Versions of packages. @throws {Missing} If one is not there. */
async function findPackages(...names: string[]): Promise<string> {
  const found = await askPython(VERSIONS, ...names);
  if (/(^|, )no /.test(found)) throw new Missing(`found ${found}`);
  return found;
}

/** Whether a program ends well within {@linkcode PATIENCE_MS}: for those that ask a host. */
async function reach(command: string, ...args: string[]): Promise<string> {
  const signal = AbortSignal.timeout(PATIENCE_MS);
  const { success, stderr, stdout } = await run(command, args, { signal });
  if (success) return "answers";
  const said = signal.aborted
    ? `no answer in ${PATIENCE_MS / 1000} s`
    : reasonOf(stderr || stdout) ?? "nothing";
  throw new Missing(`${command} found ${said}`);
}

/** Bytes of a file, or of all files of a folder. */
function sizeOf(path: string): number {
  const { isDirectory, size } = Deno.lstatSync(path);
  if (!isDirectory) return size;
  return Array.from(Deno.readDirSync(path)).reduce((sum, { name }) => sum + sizeOf(`${path}/${name}`), 0);
}

/** The cache and its largest parts: files that are named by a digest count together. */
async function describeCache(): Promise<string> {
  await prepareCacheDir();
  const folder = cacheDir(), parts = new Map<string, number>();
  for (const { name } of Deno.readDirSync(folder)) {
    const part = name.replace(/[-.](?=.*\d).*/, "").replace(/\.\w+$/, "");
    parts.set(part, (parts.get(part) ?? 0) + sizeOf(`${folder}/${name}`));
  }
  const shown = (bytes: number) => `${(bytes / 1e6).toFixed(0)} MB`;
  const largest = [...parts].toSorted(([, a], [, b]) => b - a).slice(0, 4);
  const total = [...parts.values()].reduce((sum, bytes) => sum + bytes, 0);
  return [`${folder}, ${shown(total)}`, ...largest.map(([name, bytes]) => `${name} ${shown(bytes)}`)].join(
    ", ",
  );
}

/** Losses of transformers, for {@linkcode selfTest}. */
export interface Golden {
  readonly texts: readonly { readonly ids: readonly number[]; readonly nll: readonly number[] }[];
}

/** Scores a text by `tiny`, and compares each loss with that of transformers. */
export async function selfTest(backend: Backend, { texts }: Golden): Promise<string> {
  const { model } = await loadModel("tiny", backend), [text] = texts;
  const { nll } = scoreSequence(model, Int32Array.from(text!.ids));
  const far = Math.max(...text!.nll.map((loss, t) => Math.abs(loss - nll[t]!)));
  if (far <= LOSS_BAR) return `${nll.length} losses within ${LOSS_BAR} of transformers, on ${backend.name}`;
  throw new Missing(`found losses ${far.toPrecision(2)} from those of transformers, on ${backend.name}`);
}

/** The library where there is one. */
async function openAny(): Promise<Backend> {
  try {
    return await openCpu();
  } catch (error) {
    if (error instanceof NativeLibraryError) return new ReferenceBackend();
    throw error;
  }
}

/** The level that the library runs at. */
const levelHere = async () => Deno.env.get("TOKENFILTER_LEVEL") || (await cpuLevels()).at(-1);
const shownVersion = (version: number) => `${Math.floor(version / 1000)}.${Math.floor(version % 1000 / 10)}`;

export const CHECKS: readonly Check[] = [
  {
    name: "Deno",
    fix: "npm install --global deno@2.9.6",
    look: () => checkDeno(Deno.version.deno),
  },
  {
    name: "@std",
    fix: "TOKENFILTER_STD=npm deno task doctor",
    look: async () => (await readStdFlags()).some((flag) => flag.includes("npm")) ? "from npm" : "from JSR",
  },
  {
    name: "compiler",
    use: "building the kernels",
    fix: "apt-get install g++",
    look: async () => (await findCompiler()).version,
  },
  {
    name: "CPU library",
    fix: "deno task build",
    look: async () => {
      const levels = await cpuLevels(), { arch } = Deno.build;
      if (levels.length === 0) throw new Missing(`found a library without a level of this ${arch}`);
      return `${levels.join(", ")} on ${arch}, ${navigator.hardwareConcurrency} threads`;
    },
  },
  {
    name: "BLAS",
    use: "fast long prefills below AVX-512",
    fix: "deno task build",
    look: async () => {
      const level = await levelHere(), onProgress = notHere("OpenBLAS");
      const { path, reason } = await ensureBlas({ level, onProgress });
      if (path === undefined && level !== "avx512") throw new Missing(`found ${reason}`);
      using backend = await openCpu({ level, threads: 1, ...(path !== undefined && { blas: path }) });
      return path === undefined ? backend.description : `${reason}; ${backend.description}`;
    },
  },
  {
    name: "GPU driver",
    use: "--backend cuda",
    fix: "apt-get install nvidia-driver (docs/guides/gpu.md)",
    look: async () => {
      const driver = openDriver(), { cuda, release } = await describeDriver(driver, driver.devices[0]!);
      return `${release ?? "a release that it does not tell"}, for CUDA ${cuda}`;
    },
  },
  {
    name: "GPU",
    use: "--backend cuda",
    fix: "nvidia-smi -L, and CUDA_VISIBLE_DEVICES=0 if it lists one",
    look: () =>
      openDriver().devices.map(({ name, arch, memoryBytes }) =>
        `${name} (sm_${arch}, ${(memoryBytes / 2 ** 30).toFixed(0)} GiB)`
      ).join(", "),
  },
  {
    name: "nvcc",
    use: "building the CUDA library",
    fix: "deno task build --cuda",
    look: async () => {
      let driver: number | undefined, archs = CUDA_ARCHS;
      try {
        const open = openDriver();
        [driver, archs] = [open.version, open.devices.map(({ arch }) => buildArchOf(arch))];
      } catch (error) {
        if (!(error instanceof NativeLibraryError)) throw error; // a build needs no GPU
      }
      const { version, source } = await ensureNvcc({ archs, driver }, notHere("nvcc that fits"));
      return `${version} from ${source}${driver === undefined ? "" : `, for CUDA ${shownVersion(driver)}`}`;
    },
  },
  {
    name: "Python",
    use: "fetching BLAS and nvcc, notebooks, comparisons",
    fix: "apt-get install python3 python3-pip python3-venv",
    look: async () => {
      const version = await askPython("import platform; print(platform.python_version())");
      const pip = await run(pythonName(), ["-m", "pip", "--version"]);
      if (!pip.success) throw new Missing(`found Python ${version} without pip`);
      return `${version}, ${pip.stdout.split(" ").slice(0, 2).join(" ")}`;
    },
  },
  {
    name: "numpy",
    use: "the filter in Python, and its tests",
    fix: "python3 -m pip install numpy",
    look: () => findPackages("numpy"),
  },
  {
    name: "transformers",
    use: "dumps and comparisons with transformers",
    fix: "python3 -m pip install torch transformers safetensors gguf accelerate",
    look: () => findPackages("torch", "transformers", "safetensors", "gguf", "accelerate"),
  },
  {
    name: "Chromium",
    use: "images of figures, checks of pages",
    fix: "apt-get install chromium",
    look: async () => {
      const path = findChromium();
      if (path === undefined) {
        throw new Missing("found none in PATH, expected one, or its path in TOKENFILTER_CHROMIUM");
      }
      const { success, stdout } = await run(path, ["--version"]);
      if (success) return `${stdout.trim()} at ${path}`;
      throw new Missing(`found no program that runs at "${path}"`);
    },
  },
  {
    name: "Jupyter",
    use: "notebooks with the Deno kernel",
    fix: "deno task notebooks",
    look: async () => (await ensureJupyter({ onProgress: notHere("Jupyter in the cache") })).folder,
  },
  {
    name: "cache",
    fix: "export TOKENFILTER_CACHE=FOLDER, one that takes files",
    look: describeCache,
  },
  {
    name: "model hub",
    use: "models and data sets that are not in the cache",
    fix: "export HF_ENDPOINT=ADDRESS of a mirror, or HTTPS_PROXY=ADDRESS; --model tiny needs none",
    online: true,
    look: async () => {
      const url = endpointOf({});
      try {
        const response = await fetch(url, { method: "HEAD", signal: AbortSignal.timeout(PATIENCE_MS) });
        if (response.status < 500) return `${url} answers`;
        throw new Missing(`found status ${response.status} of ${url}`);
      } catch (error) {
        throw error instanceof Missing
          ? error
          : new Missing(`found no answer of ${url}: ${(error as Error).message}`);
      }
    },
  },
  {
    name: "npm",
    use: "packages of a first run",
    fix: "apt-get install npm; where it is there: npm config get registry",
    online: true,
    look: () => reach("npm", "ping", "--fetch-retries=0"),
  },
  {
    name: "pip index",
    use: "fetching BLAS, nvcc and Jupyter",
    fix: "python3 -m pip config list, which shows its address",
    online: true,
    look: () =>
      reach(
        pythonName(),
        ..."-m pip index versions pip --disable-pip-version-check --retries 0 --timeout 5".split(" "),
      ),
  },
  {
    name: "self-test",
    fix: "deno task build --force, then deno task test lib/model ffi",
    look: async () => await selfTest(await openAny(), await readJson(GOLDEN.pathname) as Golden),
  },
];
