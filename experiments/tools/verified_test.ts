import { assert, assertEquals, assertRejects } from "@std/assert";
import { UsageError } from "../../lib/errors.ts";
import { withFolder } from "../commands/testing.ts";
import { main } from "./verified.ts";
import { findUnverified } from "./verified/noted.ts";

Deno.test("a script is verified until a file that it depends on changes", () =>
  withFolder(async (root) => {
    const files = {
      ".ci/verified.json": "{}",
      ".ci/cuda": "# checks",
      "kernels/a/a_test.ts": "1;",
      "kernels/README.md": "# Kernels",
      "lib/a.ts": "2;",
    };
    const write = async (path: string, text: string) => {
      await Deno.mkdir(`${root}/${path.replace(/[^/]*$/, "")}`, { recursive: true });
      await Deno.writeTextFile(`${root}/${path}`, text);
    };
    for (const [path, text] of Object.entries(files)) await write(path, text);
    for (const args of [["init", "-q"], ["add", "."]]) {
      assert((await new Deno.Command("git", { args, cwd: root }).output()).success);
    }
    const all = ["cuda", "emulated", "mutants", "notebook", "packages", "sanitize"];
    assertEquals(await findUnverified(root), all);
    await main(["--note", "cuda mutants", "--out", `${root}/other.json`], root);
    assertEquals(await findUnverified(root), all);
    await main(["--note", "cuda mutants"], root);
    assertEquals(
      await Deno.readTextFile(`${root}/.ci/verified.json`),
      await Deno.readTextFile(`${root}/other.json`),
    );
    assertEquals(await findUnverified(root), ["emulated", "notebook", "packages", "sanitize"]);
    await main(["--note", "emulated sanitize notebook packages"], root);
    assertEquals(await findUnverified(root), []);
    await write("kernels/README.md", "# Other");
    await write("lib/a.ts", "3;");
    assertEquals(await findUnverified(root), []);
    await write(".ci/cuda", "# fewer checks");
    assertEquals(await findUnverified(root), ["cuda"]);
    await write("kernels/a/a_test.ts", "4;");
    assertEquals(await findUnverified(root), ["cuda", "emulated", "mutants", "sanitize"]);
    await assertRejects(() => main(["--note", "cuda all"], root), UsageError, 'Cannot note "all"');
  }));
