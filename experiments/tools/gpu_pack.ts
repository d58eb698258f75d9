/**
 * `deno task pack:gpu`: a folder that tests and times the CUDA library on a machine without a network.
 * See `deno task pack:gpu --help`.
 */
import process from "node:process";
import { UsageError } from "../../lib/errors.ts";
import { run } from "../../ffi/build/command.ts";
import { listTree, type PackedFile, readCommit } from "./machine/checkout.ts";
import { findDenoCaches, runDeno } from "../commands/cli/machine/deno.ts";
import { exists, expectWritable, makeFolder } from "../commands/cli/files.ts";
import { parseOwnFlags } from "../commands/cli/flags/parse.ts";
import { Progress } from "../commands/cli/output/progress.ts";
import { EXIT, runTask, writeLine } from "../commands/cli/task.ts";

const ROOT = new URL("../..", import.meta.url).pathname.replace(/\/$/, "");
export const USAGE = `Usage: deno task pack:gpu [flags]

Writes a folder of about 45 MB: the tracked files as they are now, Deno, the npm packages of deno.lock, and run.sh.
Copy it to a Linux machine of this architecture that has a GPU with its driver, nvcc, g++ and python3; no network is needed.
Its run.sh runs test:gpu, then bench:gpu, and leaves test_gpu.log and bench_gpu.json in its folder.

  --out DIR
      folder to make (results/gpu_pack)
  --quiet
      no progress on stderr
  --help
      print this`;

/** The sources of a pack. */
export interface PackSource {
  /** The repository. */
  readonly root: string;
  /** Deno's binary. */
  readonly deno: string;
  /** Folder of npm packages in Deno's cache. */
  readonly npmCache: string;
  /** Downloads missing packages of the lock into the cache. */
  readonly fetchPackages: () => Promise<void>;
}

/**
 * Writes a pack into a folder.
 *
 * @throws {UsageError} If there is no git checkout, or a package cannot be obtained.
 */
export async function writePack(
  out: string,
  { root, deno, npmCache, fetchPackages }: PackSource,
  onProgress: (message: string) => void = () => {},
): Promise<void> {
  const tree = await listTree(root), commit = await readCommit(root);
  const wanted = lockedPackages(await Deno.readTextFile(`${root}/deno.lock`));
  if ((await listPackages(npmCache, wanted)).missing.length > 0) {
    onProgress("fetching packages");
    await fetchPackages();
  }
  const { folders, missing } = await listPackages(npmCache, wanted);
  if (missing.length > 0) {
    throw new UsageError(`Cannot pack ${missing.join(", ")}: found no copy in "${npmCache}"`);
  }
  makeFolder(out);
  onProgress(`packing ${tree.length} files of the tree, ${wanted.length} packages and Deno`);
  await writeArchive(`${out}/pack.tgz`, [
    ...tree.map(({ from, to }) => ({ from, to: `tree/${to}` })),
    ...folders,
    { from: deno, to: "bin/deno" },
  ]);
  await Deno.writeTextFile(`${out}/COMMIT`, `${commit}\n`);
  await Deno.copyFile(`${root}/experiments/tools/gpu_pack/run.sh`, `${out}/run.sh`);
  await Deno.chmod(`${out}/run.sh`, 0o755);
}

/** Writes files and folders as a `.tgz`, in the order given. @throws {UsageError} If there is no python3 that can. */
export async function writeArchive(path: string, files: readonly PackedFile[]): Promise<void> {
  const script = new URL("gpu_pack/pack.py", import.meta.url).pathname;
  const { success, stderr } = await run("python3", [
    script,
    path,
    ...files.flatMap(({ from, to }) => [from, to]),
  ]);
  if (!success) throw new UsageError(`Cannot pack by python3: ${stderr.trim().split("\n").at(-1)}`);
}

/** Packages, `name@version`, of a lock file's text, sorted: those that machines like this one take. */
export function lockedPackages(lock: string): string[] {
  const { npm }: { npm: Record<string, { os?: string[]; cpu?: string[] }> } = JSON.parse(lock);
  const isFor = (all: string[] | undefined, own: string) => all?.includes(own) ?? true;
  const own = Object.entries(npm).filter(([, { os, cpu }]) =>
    isFor(os, process.platform) && isFor(cpu, process.arch)
  );
  // The text after a version lists the versions of its peers.
  return [...new Set(own.map(([id]) => id.match(/^@?[^@]+@[^_]+/)![0]))].sort();
}

/** Deno's folder for packages of a registry on `localhost:9`, which `run.sh` names: nothing listens there. */
const OFFLINE_REGISTRY = "npm/localhost_9";

/**
 * Folders of packages in Deno's cache, to be unpacked as a `DENO_DIR`.
 *
 * @param cache Deno's `npmCache`: a folder for each registry.
 * @param packages `name@version` each.
 * @returns the folders, and the packages that are not there
 */
export async function listPackages(
  cache: string,
  packages: readonly string[],
): Promise<{ folders: PackedFile[]; missing: string[] }> {
  const registries = exists(cache) ? await Array.fromAsync(Deno.readDir(cache), ({ name }) => name) : [];
  const folders: PackedFile[] = [], missing: string[] = [];
  for (const id of packages) {
    const path = id.replace(/@(?=[^@]*$)/, "/");
    const from = registries.sort().map((registry) => `${cache}/${registry}/${path}`).find(exists);
    if (from === undefined) missing.push(id);
    else folders.push({ from, to: `deno/${OFFLINE_REGISTRY}/${path}` });
  }
  return { folders, missing };
}

/** Downloads the packages of the lock into Deno's cache. @throws {UsageError} If the registry cannot be reached. */
export async function fetchPackages(): Promise<void> {
  const std: string[] = [];
  await runDeno("fetch packages", "cache", ...std, "experiments/tools/test_gpu.ts");
}

/** Runs the task. @returns The exit code. */
export async function main(args: readonly string[]): Promise<number> {
  const { out = "results/gpu_pack", quiet } = parseOwnFlags(args, ["out"], ["quiet"]);
  if (Deno.build.os !== "linux") {
    throw new UsageError(`Cannot pack on ${Deno.build.os}: expected Linux, since the pack holds this Deno`);
  }
  if (exists(out)) throw new UsageError(`Cannot write to "${out}": it is there already (take another --out)`);
  expectWritable(out);
  const progress = new Progress(quiet ? undefined : Deno.stderr);
  const { npmCache } = await findDenoCaches();
  const part = `${out.replace(/\/+$/, "")}.part`;
  try {
    await writePack(part, {
      root: ROOT,
      deno: Deno.execPath(),
      npmCache,
      fetchPackages,
    }, (message) => progress.line(message));
    await Deno.rename(part, out);
  } finally {
    await Deno.remove(part, { recursive: true }).catch(() => {});
  }
  writeLine(Deno.stdout, `${out}: copy it to a machine with a GPU and run ${out.split("/").at(-1)}/run.sh`);
  return EXIT.ok;
}

if (import.meta.main) await runTask(main, USAGE);
