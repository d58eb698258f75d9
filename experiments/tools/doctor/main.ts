/**
 * `deno task doctor`: the parts of this machine that tasks use, and a command for each missing one.
 *
 * A check imports the code that uses its part when it runs: this file needs no package, so it also reports where none
 * can be fetched.
 */
import { findCompiler, run } from "../../../ffi/build/command.ts";
import { cacheDir, prepareCacheDir } from "../../../lib/cache.ts";
import { reasonOf } from "../../../lib/pip.ts";

/** Exit codes: all that everything needs is there; something of it is missing; wrong arguments. */
const EXIT = { ok: 0, lacking: 1, usage: 2 } as const;
export const USAGE = `Usage: deno task doctor [flags]

Checks the parts that tasks use: Deno and its packages, compiler, CPU library and its levels, BLAS, GPU, nvcc, Python and its
packages, Chromium, Jupyter, the cache, the model hub and package registries. A self-test scores a text by the model tiny, and
compares the losses with those of transformers. Each part has a line: ok, or the reason, its use, and a command. Nothing is
installed or built. Exit code 1: a part that all tasks need is missing.

  --offline
      ask no host
  --json
      print only JSON on stdout
  --help
      print this`;

/** Part of the machine: its use, where not everything needs it; the command that mends it; what finds it, or throws. */
export interface Check {
  readonly name: string;
  readonly use?: string;
  readonly fix: string;
  /** Whether it asks a host. */
  readonly online?: true;
  look(): string | Promise<string>;
}

/** Time that a host or a package index may take. */
const PATIENCE_MS = 8000;
/** How far losses of the self-test may be from those of transformers in float64, in nats: as the tests of the backends. */
const LOSS_BAR = 1.5e-5;
const GOLDEN = new URL("../../../lib/model/testdata/tiny_golden.json", import.meta.url);

function missing(reason: string): never {
  throw new Error(reason);
}

/** For finders that fetch missing parts: they call it first. */
const notHere = (what: string) => () => missing(`found no ${what}`);

/** @throws {Error} If tasks do not run on this version of Deno. */
export function checkDeno(version: string): string {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  return major === 2 && minor >= 9 ? version : missing(`found ${version}, expected 2.9 or a later 2`);
}

const python = () => Deno.env.get("TOKENFILTER_PYTHON") || "python3";

/** What a command prints. */
async function ask(command: string, ...args: string[]): Promise<string> {
  const signal = AbortSignal.timeout(PATIENCE_MS);
  const { success, stdout, stderr } = await run(command, args, { signal });
  if (success) return stdout.trim();
  const late = signal.aborted && `no answer in ${PATIENCE_MS / 1000} s`;
  return missing(`${command} found ${late || (reasonOf(stderr || stdout) ?? "nothing")}`);
}

/** Versions of packages of Python. @throws {Error} If one is not there. */
async function findPackages(...names: string[]): Promise<string> {
  const version = "lambda n: n + ' ' + m.version(n) if u.find_spec(n) else 'no ' + n";
  const code =
    `import importlib.metadata as m, importlib.util as u, sys; print(*map(${version}, sys.argv[1:]), sep=", ")`;
  const found = await ask(python(), "-c", code, ...names);
  return /(^|, )no /.test(found) ? missing(`found ${found}`) : found;
}

const ffi = () => import("../../../ffi/mod.ts");
const openDriver = async () => (await import("../../../ffi/cuda/mod.ts")).openDriver();
const levelHere = async () => Deno.env.get("TOKENFILTER_LEVEL") || (await (await ffi()).cpuLevels()).at(-1);

/** Scores a text by `tiny`, and compares each loss with that of transformers. */
export async function selfTest(golden: string): Promise<string> {
  const { loadModel } = await import("../../../lib/model/mod.ts");
  const { ReferenceBackend } = await import("../../../lib/reference/mod.ts");
  const { scoreSequence } = await import("../../../lib/eval/mod.ts");
  const backend = await (await ffi()).openCpu().catch(() => new ReferenceBackend());
  const { texts: [text] } = JSON.parse(golden) as { texts: { ids: number[]; nll: number[] }[] };
  const { nll } = scoreSequence((await loadModel("tiny", backend)).model, Int32Array.from(text!.ids));
  const far = Math.max(...text!.nll.map((loss, t) => Math.abs(loss - nll[t]!)));
  if (far <= LOSS_BAR) return `${nll.length} losses within ${LOSS_BAR} of transformers, on ${backend.name}`;
  return missing(`found losses ${far.toPrecision(2)} from those of transformers, on ${backend.name}`);
}

const needed = (name: string, fix: string, look: Check["look"]): Check => ({ name, fix, look });
const useful = (name: string, use: string, fix: string, look: Check["look"]): Check => ({
  name,
  use,
  fix,
  look,
});
const host = (...check: Parameters<typeof useful>): Check => ({ ...useful(...check), online: true });

export const CHECKS: readonly Check[] = [
  needed("Deno", "npm install --global deno@2.9.6", () => checkDeno(Deno.version.deno)),
  needed("packages", "npm config get registry (where it answers: deno install)", async () => {
    await Promise.all([import("@std/cli/parse-args"), import("../../../lib/model/mod.ts")]);
    return "in Deno's cache";
  }),
  needed("cache", "export TOKENFILTER_CACHE=FOLDER, one that takes files", async () => {
    await prepareCacheDir();
    return cacheDir();
  }),
  needed("CPU library", "deno task build", async () => {
    const levels = await (await ffi()).cpuLevels(), { arch } = Deno.build;
    if (levels.length === 0) missing(`found a library without a level of this ${arch}`);
    return `${levels.join(", ")} on ${arch}, ${navigator.hardwareConcurrency} threads`;
  }),
  needed(
    "self-test",
    "deno task build --force, then deno task test lib/model ffi",
    async () => await selfTest(await Deno.readTextFile(GOLDEN)),
  ),
  useful(
    "compiler",
    "building the kernels",
    "apt-get install g++",
    async () => (await findCompiler()).version,
  ),
  useful("BLAS", "fast long prefills below AVX-512", "deno task build", async () => {
    const level = await levelHere(), { ensureBlas } = await import("../../../ffi/build/blas.ts");
    const { path, reason } = await ensureBlas({ level, onProgress: notHere("OpenBLAS") });
    if (path === undefined && level !== "avx512") missing(`found ${reason}`);
    using backend = await (await ffi()).openCpu({ level, threads: 1, ...(path && { blas: path }) });
    return path === undefined ? backend.description : `${reason}; ${backend.description}`;
  }),
  useful("GPU driver", "--backend cuda", "apt-get install nvidia-driver (docs/guides/gpu.md)", async () => {
    const driver = await openDriver(), { describeDriver } = await import("../gpu/driver.ts");
    const { cuda, release } = await describeDriver(driver, driver.devices[0]!);
    return `${release ?? "unknown release"}, for CUDA ${cuda}`;
  }),
  useful(
    "GPU",
    "--backend cuda",
    "nvidia-smi -L, and CUDA_VISIBLE_DEVICES=0 if it lists one; without a card, deno task test:gpu --ptx tests the kernels",
    async () => {
      const gib = (bytes: number) => (bytes / 2 ** 30).toFixed(0), { devices } = await openDriver();
      return devices.map(({ name, arch, memoryBytes }) => `${name} (sm_${arch}, ${gib(memoryBytes)} GiB)`)
        .join(
          ", ",
        );
    },
  ),
  useful("nvcc", "building the CUDA library", "deno task build --cuda", async () => {
    const { buildArchOf } = await import("../../../ffi/cuda/mod.ts");
    const { CUDA_ARCHS } = await import("../../../ffi/library/sources.ts");
    const { ensureNvcc } = await import("../../../ffi/build/nvcc.ts");
    const driver = await openDriver().catch(() => undefined); // a build needs no GPU
    const archs = driver?.devices.map(({ arch }) => buildArchOf(arch)) ?? CUDA_ARCHS;
    const { version, source } = await ensureNvcc(
      { archs, driver: driver?.version },
      notHere("nvcc that fits"),
    );
    return `${version} from ${source}`;
  }),
  useful("Python", "BLAS, nvcc, notebooks, comparisons", "apt-get install python3 python3-pip", async () => {
    const version = await ask(python(), "-c", "import platform; print(platform.python_version())");
    const pip = await run(python(), ["-m", "pip", "--version"]);
    if (!pip.success) missing(`found Python ${version} without pip`);
    return `${version}, ${pip.stdout.split(" ").slice(0, 2).join(" ")}`;
  }),
  useful(
    "numpy",
    "the filter in Python, and its tests",
    "python3 -m pip install numpy",
    () => findPackages("numpy"),
  ),
  useful(
    "transformers",
    "dumps and comparisons with transformers",
    "python3 -m pip install torch transformers safetensors gguf accelerate",
    () => findPackages("torch", "transformers", "safetensors", "gguf", "accelerate"),
  ),
  useful("Chromium", "images of figures, checks of pages", "apt-get install chromium", async () => {
    const path = (await import("../../../lib/plot/mod.ts")).findChromium();
    if (path === undefined) missing("found none in PATH, expected one, or its path in TOKENFILTER_CHROMIUM");
    return `${await ask(path!, "--version")} at ${path}`;
  }),
  useful("Jupyter", "notebooks with the Deno kernel", "deno task notebooks", async () => {
    const { ensureJupyter } = await import("../notebooks/jupyter.ts");
    return (await ensureJupyter(notHere("Jupyter in the cache"))).folder;
  }),
  host(
    "model hub",
    "models and data sets that are not in the cache",
    "export HF_ENDPOINT=ADDRESS of a mirror, or HTTPS_PROXY=ADDRESS; --model tiny needs none",
    async () => {
      const url = (await import("../../../lib/model/mod.ts")).endpointOf({});
      const { status } = await fetch(url, { method: "HEAD", signal: AbortSignal.timeout(PATIENCE_MS) })
        .catch((error) => missing(`found no answer of ${url}: ${error.message}`));
      return status < 500 ? `${url} answers` : missing(`found status ${status} of ${url}`);
    },
  ),
  host(
    "npm",
    "packages of a first run",
    "apt-get install npm; where it is there: npm config get registry",
    async () => {
      await ask("npm", "ping", "--fetch-retries=0");
      return "answers";
    },
  ),
  host(
    "pip index",
    "BLAS, nvcc and Jupyter",
    "python3 -m pip config list, which shows its address",
    async () => {
      const index = "-m pip index versions pip --disable-pip-version-check --retries 0 --timeout 5";
      await ask(python(), ...index.split(" "));
      return "answers";
    },
  ),
];

/** The result of a check. */
export interface Finding extends Pick<Check, "name" | "use"> {
  readonly state: "ok" | "missing" | "broken";
  readonly found: string;
  readonly fix?: string;
}

/** Runs a check. A missing part that everything needs is called broken. */
export async function examine({ name, use, fix, look }: Check): Promise<Finding> {
  try {
    return { name, state: "ok", found: await look() };
  } catch (error) {
    const found = (error as Error).message.trim().replaceAll(/\s*\n\s*/g, "; ");
    return { name, state: use === undefined ? "broken" : "missing", found, ...(use && { use }), fix };
  }
}

/** Runs the command. @returns The exit code. */
export async function main(args: readonly string[]): Promise<number> {
  const unknown = args.find((arg) => !["--offline", "--json", "--help"].includes(arg));
  if (unknown !== undefined) {
    console.error(`Cannot use "${unknown}": expected --offline, --json or --help`);
    return EXIT.usage;
  }
  if (args.includes("--help")) return console.log(USAGE), EXIT.ok;
  const findings: Finding[] = [], isJson = args.includes("--json");
  for (const check of CHECKS.filter(({ online }) => !(online && args.includes("--offline")))) {
    const finding = await examine(check), { name, state, found, use, fix } = finding;
    findings.push(finding);
    const rest = fix === undefined ? "" : `${use === undefined ? "" : ` (for ${use})`}. Type: ${fix}`;
    if (!isJson) console.log(`${state.padEnd(8)}${name}: ${found}${rest}`);
  }
  if (isJson) console.log(JSON.stringify(findings));
  return findings.some(({ state }) => state === "broken") ? EXIT.lacking : EXIT.ok;
}

if (import.meta.main) Deno.exit(await main(Deno.args));
