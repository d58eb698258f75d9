/** What goes into a pack: the tree as git knows it, and the npm packages that its lock names. */
import { UsageError } from "../../lib/errors.ts";

/** Where Deno looks for packages of a registry on `localhost:9`, which `run.sh` names: port 9 of nobody. */
const OFFLINE_REGISTRY = "localhost_9";

/** A file of a pack. */
export interface PackedFile {
  /** Where it lies, absolute. */
  readonly from: string;
  /** Where it goes, relative. */
  readonly to: string;
}

async function git(root: string, ...args: string[]): Promise<string> {
  let words = "there is no program git";
  try {
    const { success, stdout, stderr } = await new Deno.Command("git", { args, cwd: root, stdin: "null" })
      .output();
    if (success) return new TextDecoder().decode(stdout);
    words = new TextDecoder().decode(stderr).trim();
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  throw new UsageError(`Cannot list the tree: ${words} (expected a git checkout)`);
}

/** Tracked files as they are in the working tree, sorted by path. @throws {UsageError} If there is no git checkout. */
export async function listTree(root: string): Promise<PackedFile[]> {
  const paths = (await git(root, "ls-files", "-z")).split("\0").filter((path) => path !== "");
  const deleted = new Set((await git(root, "ls-files", "-z", "--deleted")).split("\0"));
  return [...new Set(paths)].filter((path) => !deleted.has(path)).sort().map((path) => ({
    from: `${root}/${path}`,
    to: path,
  }));
}

/** The commit, with "-dirty" where a tracked file was changed. @throws {UsageError} If there is no git checkout. */
export async function readCommit(root: string): Promise<string> {
  const head = (await git(root, "rev-parse", "HEAD")).trim();
  const changed = await git(root, "status", "--porcelain", "--untracked-files=no");
  return changed === "" ? head : `${head}-dirty`;
}

/** Packages, `name@version`, of a lock file's text, sorted. */
export function lockedPackages(lock: string): string[] {
  return Object.keys((JSON.parse(lock) as { npm: Record<string, unknown> }).npm).sort();
}

/**
 * Files of packages in Deno's cache, to be unpacked as a `DENO_DIR`; sorted by path.
 *
 * @param cache Deno's `npmCache`: a folder for each registry.
 * @param packages `name@version` each.
 * @returns the files, and the packages that are not there
 */
export async function listPackages(
  cache: string,
  packages: readonly string[],
): Promise<{ files: PackedFile[]; missing: string[] }> {
  const registries = await namesIn(cache);
  const files: PackedFile[] = [], missing: string[] = [];
  for (const id of packages) {
    const at = id.lastIndexOf("@"), path = `${id.slice(0, at)}/${id.slice(at + 1)}`;
    const own: PackedFile[] = [];
    for (const registry of registries) {
      if (own.length > 0) break;
      for await (const file of walk(`${cache}/${registry}/${path}`)) {
        own.push({
          from: `${cache}/${registry}/${path}/${file}`,
          to: `npm/${OFFLINE_REGISTRY}/${path}/${file}`,
        });
      }
    }
    if (own.length === 0) missing.push(id);
    files.push(...own);
  }
  return { files: files.sort((a, b) => a.to < b.to ? -1 : 1), missing };
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return (await Array.fromAsync(Deno.readDir(folder))).map(({ name }) => name).sort();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) return [];
    throw error;
  }
}

async function* walk(folder: string, below = ""): AsyncGenerator<string> {
  for (const name of await namesIn(`${folder}/${below}`)) {
    const { isDirectory } = await Deno.stat(`${folder}/${below}${name}`);
    if (isDirectory) yield* walk(folder, `${below}${name}/`);
    else yield `${below}${name}`;
  }
}
