/** `deno task notebooks`: the choice of notebooks, refusals, and a run. */
import { assertEquals, assertMatch, assertStringIncludes, assertThrows } from "@std/assert";
import { inChild } from "../../../kernels/testing/child.ts";
import { UsageError } from "../../../lib/errors.ts";
import { browserTest } from "../../../lib/plot/figure/testing.ts";
import { IN_SLOW_TIER, NOT_ON_WINDOWS, unless } from "../../../lib/testing.ts";
import { finish, listFolder, runTask, spawnTask, withFolder } from "../../commands/testing.ts";
import { chooseNotebooks, processNotebook } from "./main.ts";
import { formatNotebook, readNotebook } from "./notebook.ts";
import { notebookOf, textCell } from "./testing.ts";

Deno.test("chooseNotebooks() takes beginnings, paths and nothing", () => {
  const known = ["01_quickstart", "02_anatomy", "03_variance_fusion"];
  assertEquals(chooseNotebooks(known, []), known);
  assertEquals(chooseNotebooks(known, ["03", "01_quick"]), ["01_quickstart", "03_variance_fusion"]);
  assertEquals(chooseNotebooks(known, ["notebooks/02_anatomy.ipynb", "02"]), ["02_anatomy"]);
  assertThrows(() => chooseNotebooks(known, ["anatomy"]), UsageError, '"02_anatomy"');
});

Deno.test("deno task notebooks refuses in one line that names the cause, with exit code 2", async () => {
  const cases: [args: string[], cause: string][] = [
    [["--chekc"], "--check"],
    [["--update=yes"], "--update"],
    [["--out", ""], "--out"],
    [["--model", "missing.gguf"], "missing.gguf"],
    [["--update", "--model", "smollm2-135m"], "tiny"],
    [["no_such"], "no_such"],
  ];
  for (const [args, cause] of cases) {
    const { code, stdout, stderr } = await runTask("notebooks", ...args);
    assertEquals([code, stdout, stderr.trim().split("\n").length], [2, "", 1]);
    assertStringIncludes(stderr, cause);
  }
});

Deno.test({
  ...unless(NOT_ON_WINDOWS, "ensureJupyter() has pip refuse other digests, and leaves nothing of a failure"),
  fn: () =>
    withFolder(async (folder) => {
      const pip = `#!/bin/sh\necho "$*" >> ${folder}/asked\nprintf 'a\\nERROR: no network\\n' >&2\nexit 1\n`;
      await Deno.writeTextFile(`${folder}/python3`, pip, { mode: 0o755 });
      const { error } = await inChild(
        { PATH: folder, TOKENFILTER_CACHE: `${folder}/cache` },
        `return await (await load("experiments/tools/notebooks/jupyter.ts")).ensureJupyter();`,
      );
      assertMatch(error, /^UsageError: Cannot set up Jupyter: ERROR: no network; .*python3-pip\)$/);
      assertEquals(listFolder(`${folder}/cache`), []);
      assertMatch(
        Deno.readTextFileSync(`${folder}/asked`),
        / --require-hashes --requirement \S+requirements\.txt$/m,
      );
      const requirements = await Deno.readTextFile(new URL("requirements.txt", import.meta.url));
      for (const line of requirements.replaceAll(/^#.*\n/gm, "").replaceAll(" \\\n", "").trim().split("\n")) {
        assertMatch(line, /^([\w.-]+)==[\w.]+( ; [^\\]+?)?( +--hash=sha256:[0-9a-f]{64})+$/);
      }
    }),
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

/** Stands in for Python with Jupyter: a run leaves the notebook as it is. */
const PYTHON = `#!/bin/sh
grep -q ended "$2" && echo '{"cell": 2}' && echo no memory >&2 && exit 3
cp "$2" "$3"
grep -q wrong "$2" || exit 0
echo '{"cell": 0, "error": "it is wrong"}'
exit 1
`;

Deno.test({
  ...unless(
    NOT_ON_WINDOWS,
    "processNotebook() leaves the run, and gives the faults of its cells and of its program",
  ),
  fn: () =>
    withFolder(async (folder) => {
      const python = `${folder}/python`, path = `${folder}/a.ipynb`, out = `${folder}/out.ipynb`;
      await Deno.writeTextFile(python, PYTHON, { mode: 0o755 });
      const cells: number[] = [], onCell = (cell: number) => cells.push(cell);
      const run = async (text: string) => {
        await Deno.writeTextFile(path, formatNotebook(notebookOf(textCell(text))));
        return await processNotebook({ jupyter: { python, folder }, model: "m", path, out, onCell })
          .catch(({ message }) => message);
      };
      assertEquals(await run("wrong"), ["cell 1: it is wrong"]);
      assertEquals([await run("ended"), cells], [`Cannot execute "${path}": no memory`, [3]]);
      assertEquals(await run("right"), []);
      assertEquals((await readNotebook(out)).cells[0]!.source, "right");
    }),
});
