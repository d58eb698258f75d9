/** Copies of the tree in which faults are put, one for each job, and the commands that run there. */
import type { PackedFile } from "../machine/checkout.ts";
import { type Ran, runGroup } from "../machine/process_group.ts";

/** Bytes of writable memory a process may ask for: a fault may ask for all there is. */
const MEMORY_KIB = 8 << 20;

/**
 * A compiler that compiles quickly to slow code, and compiles no preprocessed text twice: a mutant is in few units. An
 * access beyond an array ends the process, as in .ci/sanitize. If MUTANT_LEVEL is the code of a level of the CPU
 * library, objects of other levels are those of the build with "none".
 */
const COMPILER = `#!/bin/sh
set -e
cxx=\${REAL_CXX:-g++}
case " $* " in *" -c "*) ;; *) exec $cxx "$@" ;; esac
for out; do :; done
objects=$(dirname "$0")/../objects
case "$MUTANT_LEVEL $* " in
  [an]*|*" -DTKF_LEVEL=$MUTANT_LEVEL "*) ;;
  *" -DTKF_LEVEL="*) exec cp "$objects/$out" "$out" ;;
esac
$cxx "$@" -E -P
key=$({ echo "$*"; cat "$out"; } | sha256sum | cut -c 1-32)
if [ ! -f "$objects/$key" ]; then
  $cxx "$@" -O1 -fsanitize=bounds -fsanitize-undefined-trap-on-error
  cp "$out" "$objects/$key.$$" && mv "$objects/$key.$$" "$objects/$key"
fi
cp "$objects/$key" "$out"
[ "$MUTANT_LEVEL" != none ] || cp "$out" "$objects/$out"
`;

/** A copy of the tree with caches and a folder for temporary files of its own. */
export interface Workplace {
  /** Root of the copy. */
  readonly root: string;
  /** The compiler that builds libraries here. */
  readonly compiler: string;
  /** Runs a command in the copy. @param limit seconds */
  run(command: readonly string[], limit: number, env?: Record<string, string>): Promise<Ran>;
}

/** The sources of a copy. */
export interface WorkplaceSource {
  /** Files of the tree. */
  readonly tree: readonly PackedFile[];
  /** Folder of built libraries, copied so that nothing is built twice. */
  readonly cache: string;
  /** Deno's cache, of which packages are used. */
  readonly denoDir: string;
  /** Ends the commands in the copy. */
  readonly signal: AbortSignal;
}

/** Makes a copy. @param folder The folder to make; the owner of its parent removes it. */
export async function makeWorkplace(
  folder: string,
  { tree, cache, denoDir, signal }: WorkplaceSource,
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
  const own = {
    TOKENFILTER_CACHE: `${folder}/cache`,
    DENO_DIR: `${folder}/deno`,
    TMPDIR: `${folder}/tmp`,
    REAL_CXX: Deno.env.get("CXX")?.trim() ?? "",
    NO_COLOR: "1",
    DENO_NO_UPDATE_CHECK: "1",
  };
  const root = `${folder}/tree`, limited = `ulimit -d ${MEMORY_KIB} 2>/dev/null; exec "$@"`;
  const run: Workplace["run"] = (command, limit, env = {}) =>
    runGroup(["sh", "-c", limited, "sh", ...command], { cwd: root, env: { ...own, ...env }, limit, signal });
  // Tests of the pack and of the commit's name need a checkout.
  const author = ["-c", "user.name=mutants", "-c", "user.email=mutants@localhost"];
  for (const args of [["init", "-q"], ["add", "-A", "-f"], [...author, "commit", "-q", "-m", "copy"]]) {
    const { success, output } = await run(["git", ...args], 120);
    if (!success) throw new Error(`Cannot copy the tree: git ${args.join(" ")}: ${output}`);
  }
  return { root, compiler: `${folder}/compiler`, run };
}
