import { assertEquals, assertRejects } from "@std/assert";
import { NOT_ON_WINDOWS, unless } from "../../../lib/testing.ts";
import { listFolder, withFolder } from "../../commands/testing.ts";
import { processNotebook } from "./process.ts";
import { notebookOf, textCell } from "./testing.ts";

/** Stands in for Jupyter's Python: a run leaves the notebook as it is, and a page names its notebook. */
const PYTHON = `#!/bin/sh
case "$1" in
  *execute.py) dirname "$2" > "$(dirname "$0")/work"; cp "$2" "$3/1.ipynb"
    case "$(cat "$2")" in
      *wrong*) echo '{"event": "error", "run": 1, "cell": 0, "message": "it is wrong"}'; exit 1;;
      *) echo '{"event": "run", "run": 1, "seconds": 2}';;
    esac;;
  *convert.py) echo "page of $2" > "$3";;
esac
`;

Deno.test({
  ...unless(NOT_ON_WINDOWS, "processNotebook() leaves the run and its page, and nothing of its work"),
  fn: () =>
    withFolder(async (folder) => {
      const python = `${folder}/python`, out = `${folder}/out`;
      await Deno.writeTextFile(python, PYTHON, { mode: 0o755 });
      await Deno.mkdir(out);
      const run = async (text: string) => {
        const processed = await processNotebook({
          ...{ name: "a", notebook: notebookOf(textCell(text)), jupyter: { python, folder }, model: "m" },
          ...{ folder, out, repeat: 1, update: false, browser: undefined, onProgress: () => {} },
        });
        const work = (await Deno.readTextFile(`${folder}/work`)).trim();
        await assertRejects(() => Deno.stat(work), Deno.errors.NotFound);
        return processed;
      };
      assertEquals(await run("wrong"), { problems: ["cell 1: it is wrong"], figures: 0, seconds: [] });
      assertEquals(listFolder(out), []);
      assertEquals(await run("right"), { problems: [], figures: 0, seconds: [2] });
      assertEquals(listFolder(out), ["a.html", "a.ipynb"]);
      assertEquals(await Deno.readTextFile(`${out}/a.html`), `page of ${out}/a.ipynb\n`);
    }),
});
