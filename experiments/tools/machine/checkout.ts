/** The tracked files of a checkout, and its commit, by git. */
import { run } from "../../../ffi/build/command.ts";
import { UsageError } from "../../../lib/errors.ts";

export interface PackedFile {
  readonly from: string;
  readonly to: string;
}

async function git(root: string, ...args: string[]): Promise<string> {
  const { success, stdout, stderr } = await run("git", args, { cwd: root });
  if (success) return stdout;
  throw new UsageError(`Cannot list the tree: ${stderr.trim()} (expected a git checkout)`);
}

/** Tracked files as they are in the working tree, sorted by path. @throws {UsageError} If there is no git checkout. */
export async function listTree(root: string): Promise<PackedFile[]> {
  const paths = (await git(root, "ls-files", "-z")).split("\0").filter((path) => path !== "");
  const deleted = new Set((await git(root, "ls-files", "-z", "--deleted")).split("\0"));
  return [...new Set(paths)].filter((path) => !deleted.has(path)).sort()
    .map((path) => ({ from: `${root}/${path}`, to: path }));
}

/** The commit, with "-dirty" where a tracked file was changed. @throws {UsageError} If there is no git checkout. */
export async function readCommit(root: string): Promise<string> {
  const head = (await git(root, "rev-parse", "HEAD")).trim();
  const changed = await git(root, "status", "--porcelain", "--untracked-files=no");
  return changed === "" ? head : `${head}-dirty`;
}
