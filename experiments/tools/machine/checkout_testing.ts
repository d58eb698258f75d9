/** The tracked files of a checkout, by git, for tests. */
import { run } from "../../../ffi/build/command.ts";

/** Paths of tracked files as they are in the working tree, sorted. @throws {Error} If there is no git checkout. */
export async function listTree(root: string): Promise<string[]> {
  const list = async (...flags: string[]) => {
    const { success, stdout, stderr } = await run("git", ["ls-files", "-z", ...flags], { cwd: root });
    if (success) return stdout.split("\0").filter((path) => path !== "");
    throw new Error(`Cannot list the tree: ${stderr.trim()} (expected a git checkout)`);
  };
  const deleted = new Set(await list("--deleted"));
  return [...new Set(await list())].filter((path) => !deleted.has(path)).sort();
}
