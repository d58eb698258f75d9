/** The libraries and the level of this machine with which all runs compute. */
import { run } from "../../../ffi/build/command.ts";
import { buildCpu, ensureBlas } from "../../../build.ts";
import { cpuLevels } from "../../../ffi/mod.ts";
import { type Env, ROOT, type Tasks } from "./execute.ts";
import { hash } from "./summarize.ts";

/** The requirements of runs, ready to be used. */
export interface Machine {
  /** Level of the native code in all runs that do not name one: the best that most machines have. */
  readonly level: string;
  /** Requirements of some runs that this machine has. */
  readonly has: readonly string[];
  /** Tools that round, as in `Digest`. */
  readonly madeWith: { readonly [tool: string]: string };
  /** Variables for all runs. */
  readonly env: Env;
  /** A BLAS that rounds alike on all machines, as `has` names it; undefined where there is none. */
  readonly blas: string | undefined;
  /** Variables for runs with it. */
  readonly blasEnv: Env;
}

/** Levels in the order in which they are taken, where the machine has them. */
const PREFERRED = ["avx2", "neon", "base"];

/** Seconds for building the missing libraries. */
const BUILD_S = 1200;

/**
 * Builds the missing libraries.
 *
 * @param folder takes the stand-in for the driver
 * @param wantsEmulated Whether a run is on the emulated CUDA library.
 * @throws {Error} If something cannot be built.
 */
export async function openMachine(
  tasks: Tasks,
  folder: string,
  wantsEmulated: boolean,
): Promise<Machine> {
  // The emulator is for Linux only.
  const isEmulated = wantsEmulated && Deno.build.os === "linux";
  const { code, stdout, stderr } = await tasks.run(
    { task: "build" },
    isEmulated ? ["--emulated"] : ["--all"],
    {},
    BUILD_S,
  );
  const emulated = stdout.match(/^(?:found|built) (\S*emulated\S*)$/m)?.[1];
  if (code !== 0 || isEmulated && emulated === undefined) {
    throw new Error(`Cannot build: found ${stdout}${stderr}`);
  }
  const { path, manifest } = await buildCpu();
  const blas = await ensureBlas();
  const levels = await cpuLevels({ library: path });
  const level = PREFERRED.find((name) => levels.includes(name)) ?? levels[0]!;
  const pinned = blas.path !== undefined && blas.reason.includes("==") && level === "avx2"
    ? blas.reason
    : undefined;
  return {
    level: `${Deno.build.os} ${Deno.build.arch} ${level}`,
    has: [
      ...levels.map((name) => `level ${name}`),
      ...(isEmulated ? ["emulated CUDA"] : []),
      ...(pinned === undefined ? [] : [pinned]),
    ],
    madeWith: { compiler: manifest.compiler, arithmetic: fingerprintMath() },
    env: {
      TOKENFILTER_LEVEL: level,
      TOKENFILTER_BLAS: "none",
      TOKENFILTER_CUBLASLT: "none",
      TOKENFILTER_CUDA_DRIVER: Deno.build.os === "linux" ? await buildDriver(`${folder}/libcuda.so`) : "none",
      ...(emulated !== undefined && { TOKENFILTER_CUDA_LIBRARY: emulated }),
    },
    blas: pinned,
    blasEnv: { TOKENFILTER_BLAS: blas.path ?? "none", OPENBLAS_CORETYPE: "Haswell" },
  };
}

/** A hash of results of JavaScript's functions: they differ between versions of V8. */
function fingerprintMath(): string {
  const points = Array.from({ length: 500 }, (_, i) => (i + 1) / 37);
  const { exp, log, sin, cos, tanh, pow, hypot } = Math;
  return hash(
    [exp, log, sin, cos, tanh, (x: number) => pow(x, 1.7), (x: number) => hypot(x, 3)]
      .map((of) => points.map(of)).join(),
  );
}

/** Compiles the stand-in for the driver. */
async function buildDriver(path: string): Promise<string> {
  const source = findFile(ROOT, "fake_driver.c");
  const { success, stderr } = await run("gcc", ["-shared", "-fPIC", source, "-o", path]);
  if (!success) throw new Error(`Cannot compile ${source}: ${stderr}`);
  return path;
}

/** The one file of a name below the project's folder. */
function findFile(folder: string, name: string): string {
  const found: string[] = [];
  const search = (place: string) => {
    for (const entry of Deno.readDirSync(place)) {
      const path = `${place}${entry.name}`;
      if (entry.isFile && entry.name === name) found.push(path);
      if (entry.isDirectory && !/^(\.|node_modules$|results$|build$)/.test(entry.name)) search(`${path}/`);
    }
  };
  search(folder);
  if (found.length !== 1) throw new Error(`Cannot find ${name}: found ${found.length}, expected one`);
  return found[0]!;
}
