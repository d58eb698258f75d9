import { assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { UsageError } from "../../../lib/errors.ts";
import { browserTest } from "../../../lib/plot/figure/testing.ts";
import { IN_SLOW_TIER, NOT_ON_WINDOWS, unless } from "../../../lib/testing.ts";
import { finish, listFolder, runTask, spawnTask, withFolder } from "../../commands/testing.ts";
import { chooseNotebooks, main, processNotebook } from "./main.ts";
import { readNotebook } from "./notebook.ts";
import { notebookOf, textCell } from "./testing.ts";

const known = ["01_quickstart", "02_anatomy", "03_variance_fusion"];

Deno.test("chooseNotebooks() takes beginnings, paths and nothing", () => {
  assertEquals(chooseNotebooks(known, []), known);
  assertEquals(chooseNotebooks(known, ["03", "01_quick"]), ["01_quickstart", "03_variance_fusion"]);
  assertEquals(chooseNotebooks(known, ["notebooks/02_anatomy.ipynb", "02"]), ["02_anatomy"]);
  assertThrows(() => chooseNotebooks(known, ["anatomy"]), UsageError, '"02_anatomy"');
});

const WRONG: readonly [args: string[], says: string][] = [
  [["--chekc"], "--check"],
  [["--update=yes"], "--update"],
  [["--out", ""], "--out"],
  [["--model", "missing.gguf"], "missing.gguf"],
  [["--update", "--model", "smollm2-135m"], "tiny"],
  [["no_such"], "no_such"],
];
for (const [args, says] of WRONG) {
  Deno.test(`main() refuses ${args.join(" ")} in one line that names it`, async () => {
    const { message } = await assertRejects(() => main(["--quiet", ...args]), UsageError);
    assertStringIncludes(message, says);
    assertEquals(message.includes("\n"), false);
  });
}

Deno.test("deno task notebooks leaves with exit code 2 where it refuses", async () => {
  const { code, stdout, stderr } = await runTask("notebooks", "no_such");
  assertEquals([code, stdout], [2, ""]);
  assertEquals(stderr.trim().split("\n").length, 1);
});

browserTest(
  "deno task notebooks runs a notebook, draws its figures, and leaves no temporary files",
  () =>
    withFolder(async (folder) => {
      const temporary = `${folder}/tmp`, out = `${folder}/out`;
      await Deno.mkdir(temporary);
      const child = await spawnTask("notebooks", ["01", "--out", out, "--quiet"], { TMPDIR: temporary });
      const { code, stdout, stderr } = await finish(child);
      assertEquals([code, stdout, stderr, listFolder(temporary)], [0, `1 notebook: ${out}\n`, "", []]);
      assertEquals(listFolder(out), ["01_quickstart.ipynb"]);
      assertStringIncludes(await Deno.readTextFile(`${out}/01_quickstart.ipynb`), "data:image/svg+xml");
    }),
  IN_SLOW_TIER,
);

/** Stands in for Jupyter's Python: a run leaves the notebook as it is. */
const PYTHON = `#!/bin/sh
dirname "$2" > "$(dirname "$0")/work"
cp "$2" "$3"
grep -q wrong "$2" || exit 0
echo '{"cell": 0, "error": "it is wrong"}'
exit 1
`;

Deno.test({
  ...unless(NOT_ON_WINDOWS, "processNotebook() leaves the run, and nothing of its work"),
  fn: () =>
    withFolder(async (folder) => {
      const python = `${folder}/python`, path = `${folder}/a.ipynb`;
      await Deno.writeTextFile(python, PYTHON, { mode: 0o755 });
      const run = async (text: string) => {
        const options = { jupyter: { python, folder }, model: "m", onCell: () => {} };
        const problems = await processNotebook({ notebook: notebookOf(textCell(text)) }, path, options);
        const work = (await Deno.readTextFile(`${folder}/work`)).trim();
        await assertRejects(() => Deno.stat(work), Deno.errors.NotFound);
        return problems;
      };
      assertEquals(await run("wrong"), ["cell 1: it is wrong"]);
      await assertRejects(() => Deno.stat(path), Deno.errors.NotFound);
      assertEquals(await run("right"), []);
      assertEquals((await readNotebook(path)).cells[0]!.source, "right");
    }),
});
