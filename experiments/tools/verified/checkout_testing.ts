/** A checkout in a folder of its own, for tests of what has changed in it. */
import { assert } from "@std/assert";
import { withFolder } from "../../commands/testing.ts";

/** Writes a file of a checkout by its path. */
export type WriteFile = (path: string, text: string) => Promise<void>;

/** Runs `work` in a checkout that tracks these files. */
export const withCheckout = (
  files: { readonly [path: string]: string },
  work: (root: string, write: WriteFile) => Promise<void>,
): Promise<void> =>
  withFolder(async (root) => {
    const write: WriteFile = async (path, text) => {
      await Deno.mkdir(`${root}/${path.replace(/[^/]*$/, "")}`, { recursive: true });
      await Deno.writeTextFile(`${root}/${path}`, text);
    };
    for (const [path, text] of Object.entries(files)) await write(path, text);
    for (const args of [["init", "-q"], ["add", "."]]) {
      assert((await new Deno.Command("git", { args, cwd: root }).output()).success);
    }
    await work(root, write);
  });
