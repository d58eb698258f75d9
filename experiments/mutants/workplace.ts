/** Copies of the tree in which faults are put, one for each job, and the commands that run there. */
import type { PackedFile } from "../cli/checkout.ts";

/** What became of a command. */
export interface Ran {
  readonly success: boolean;
  /** What it wrote on both streams. */
  readonly said: string;
  /** Whether it was ended because it took too long. */
  readonly timedOut: boolean;
  readonly seconds: number;
}

/** Bytes of writable memory a process may ask for: a fault may ask for all there is. */
const MEMORY_KIB = 8 << 20;

/** A compiler that is quick rather than its code, and compiles no preprocessed text twice: a mutant is in few units. */
const COMPILER = `#!/bin/sh
set -e
cxx=\${REAL_CXX:-g++}
case " $* " in *" -c "*) ;; *) exec $cxx "$@" ;; esac
for out; do :; done
objects=$(dirname "$0")/../objects
$cxx "$@" -E -P
key=$({ echo "$*"; cat "$out"; } | sha256sum | cut -c 1-32)
if [ ! -f "$objects/$key" ]; then
  $cxx "$@" -O1
  cp "$out" "$objects/$key.$$" && mv "$objects/$key.$$" "$objects/$key"
fi
cp "$objects/$key" "$out"
`;

/** A copy of the tree with caches and a folder for temporary files of its own. */
export class Workplace {
  /** Root of the copy. */
  readonly root: string;
  readonly #env: Record<string, string>;
  readonly #running = new Set<number>();

  private constructor(folder: string, env: Record<string, string>) {
    this.root = `${folder}/tree`;
    this.#env = env;
  }

  /**
   * Makes one.
   *
   * @param folder Where: is made, and removed by who made the folder above it.
   * @param tree Files of the tree.
   * @param cache Folder of built libraries, copied so that nothing is built twice.
   * @param denoDir Deno's cache, of which packages are used.
   */
  static async make(
    folder: string,
    { tree, cache, denoDir }: { tree: readonly PackedFile[]; cache: string; denoDir: string },
  ): Promise<Workplace> {
    for (const name of ["tree", "cache", "deno", "tmp"]) {
      await Deno.mkdir(`${folder}/${name}`, { recursive: true });
    }
    for (const folderOf of new Set(tree.map(({ to }) => to.replace(/[^/]*$/, "")))) {
      await Deno.mkdir(`${folder}/tree/${folderOf}`, { recursive: true });
    }
    for (const { from, to } of tree) await Deno.copyFile(from, `${folder}/tree/${to}`);
    for await (const { name, isFile } of Deno.readDir(cache)) {
      if (isFile) await Deno.copyFile(`${cache}/${name}`, `${folder}/cache/${name}`);
      else if (name.startsWith("jupyter-")) await Deno.symlink(`${cache}/${name}`, `${folder}/cache/${name}`);
    }
    for await (const { name } of Deno.readDir(denoDir)) {
      if (/^(npm|remote|registries)$/.test(name)) {
        await Deno.symlink(`${denoDir}/${name}`, `${folder}/deno/${name}`);
      }
    }
    await Deno.mkdir(`${folder}/../objects`, { recursive: true });
    await Deno.writeTextFile(`${folder}/compiler`, COMPILER);
    await Deno.chmod(`${folder}/compiler`, 0o755);
    const workplace = new Workplace(folder, {
      TOKENFILTER_CACHE: `${folder}/cache`,
      DENO_DIR: `${folder}/deno`,
      TMPDIR: `${folder}/tmp`,
      REAL_CXX: Deno.env.get("CXX")?.trim() ?? "",
      NO_COLOR: "1",
      DENO_NO_UPDATE_CHECK: "1",
    });
    // Tests of the pack and of the commit's name want a checkout.
    const author = ["-c", "user.name=mutants", "-c", "user.email=mutants@localhost"];
    for (const args of [["init", "-q"], ["add", "-A", "-f"], [...author, "commit", "-q", "-m", "copy"]]) {
      const { success, said } = await workplace.run(["git", ...args], 120);
      if (!success) throw new Error(`Cannot copy the tree: git ${args.join(" ")}: ${said}`);
    }
    return workplace;
  }

  /** The compiler that builds libraries here. */
  get compiler(): string {
    return this.root.replace(/tree$/, "compiler");
  }

  /** Runs a command in the copy, in a process group of its own, which is ended as a whole. */
  async run(command: readonly string[], limit: number, env: Record<string, string> = {}): Promise<Ran> {
    const began = performance.now();
    const child = new Deno.Command("sh", {
      args: ["-c", `ulimit -d ${MEMORY_KIB} 2>/dev/null; exec "$@"`, "sh", ...command],
      cwd: this.root,
      env: { ...this.#env, ...env },
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
      detached: true,
    }).spawn();
    this.#running.add(child.pid);
    let timedOut = false;
    const timer = setTimeout(() => {
      timedOut = true;
      killGroup(child.pid);
    }, limit * 1000);
    try {
      const { success, stdout, stderr } = await child.output();
      const decoder = new TextDecoder(), seconds = (performance.now() - began) / 1000;
      return { success, said: decoder.decode(stdout) + decoder.decode(stderr), timedOut, seconds };
    } finally {
      clearTimeout(timer);
      killGroup(child.pid);
      this.#running.delete(child.pid);
    }
  }

  /** Ends what runs here. */
  stop(): void {
    this.#running.forEach(killGroup);
  }
}

function killGroup(pid: number): void {
  try {
    Deno.kill(-pid, "SIGKILL");
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error; // ended by itself
  }
}
