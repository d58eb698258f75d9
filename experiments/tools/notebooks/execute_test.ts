/** Cells in the Deno kernel, by Jupyter. */
import { fileURLToPath } from "node:url";
import { assertEquals, assertMatch } from "@std/assert";
import { withFolder } from "../../commands/testing.ts";
import { executeNotebook } from "./execute.ts";
import { run as runProgram } from "../../../ffi/build/command.ts";
import { ensureJupyter, variablesOf } from "./jupyter.ts";
import { formatNotebook, type Notebook, readNotebook } from "./notebook.ts";
import { checkOutputs } from "./outputs.ts";
import { codeCell, notebookOf, textCell } from "./testing.ts";
import { IN_SLOW_TIER, unless } from "../../../lib/testing.ts";

const python = (await runProgram("python3", ["-m", "pip", "--version"])).success;

/** A test that needs python3 with pip; in the slow tier, since it installs Jupyter. */
function test(name: string, fn: (folder: string) => Promise<void>): void {
  Deno.test({
    ...unless(!python && "found no python3 with pip" || IN_SLOW_TIER, name),
    fn: () => withFolder(fn),
  });
}

/** Runs a notebook in a folder. @returns What it became, or its failure */
async function execute(folder: string, notebook: Notebook): Promise<Notebook | string> {
  const path = `${folder}/a.ipynb`, out = `${folder}/out.ipynb`;
  await Deno.writeTextFile(path, formatNotebook(notebook));
  const failure = await executeNotebook({ jupyter: await ensureJupyter(), path, out, model: "a-model" });
  return failure ?? await readNotebook(out);
}

test("executeNotebook() keeps every output, late ones too", async (folder) => {
  const notebook = notebookOf(
    textCell("text"),
    codeCell("const names = ['a', 'b', 'c'];\nfor (const name of names) console.log(name);"),
    codeCell("const value = 6 * 7;", "quiet"),
    codeCell("console.log('first');\nvalue;"),
    codeCell("await new Promise((done) => setTimeout(done, 20));\nconsole.log('late');"),
    codeCell("Deno.env.get('TOKENFILTER_MODEL');"),
    codeCell("Deno.cwd();"),
  );
  const run = await execute(folder, notebook) as Notebook;
  assertEquals(checkOutputs(run), []);
  const shown = run.cells.map(({ outputs = [] }) =>
    outputs.map(({ text, data }) => [text ?? data!["text/plain"]].flat().join("")).join("|")
  );
  const real = await Deno.realPath(folder);
  assertEquals(shown, ["", "a\nb\nc\n", "", "first\n|42", "late\n", '"a-model"', JSON.stringify(real)]);
});

/** Feeds client messages to a cell of execute.py, and prints the outputs that it recognized. */
const MESSAGES = `
import asyncio, json, queue, sys
from types import SimpleNamespace
sys.path.insert(0, sys.argv[1])
from nbformat.v4 import new_code_cell, new_notebook
from execute import PatientClient

def message(parent, kind, **content):
    return {"parent_header": {"msg_id": parent}, "header": {"msg_type": kind}, "msg_type": kind, "content": content}

def text(parent, text):
    return message(parent, "stream", name="stdout", text=text)

def idle(parent):
    return message(parent, "status", execution_state="idle")

def get_msg(timeout):
    if sent:
        return sent.pop(0)
    raise queue.Empty if timeout is not None else RuntimeError("waits for ever")

sent = [idle("other"), text("other", "foreign"), text("own", "own"), idle("own"), text("other", "foreign"), text("own", "late")]
cell = new_code_cell("")
client = PatientClient(new_notebook(cells=[cell]), record_timing=False)
client.clear_before_next_output = False
client.kc = SimpleNamespace(iopub_channel=SimpleNamespace(get_msg=get_msg))
asyncio.run(client._async_poll_output_msg("own", cell, 0))
print(json.dumps([output.text for output in cell.outputs]))
`;

test("execute.py gives a cell its own messages alone, those after its idle too", async () => {
  const { python, folder: packages } = await ensureJupyter(), env = variablesOf(packages);
  const folder = fileURLToPath(new URL(".", import.meta.url));
  const { stdout, stderr } = await runProgram(python, ["-c", MESSAGES, folder], { env });
  assertEquals([stdout, stderr], ['["own", "late"]\n', ""]);
});

test("executeNotebook() names the cell that fails, and its error; or the kernel that ended", async (folder) => {
  for (
    const [source, failure] of [
      ["throw new RangeError('too far');", /^cell 2: RangeError: too far$/],
      ["const = 1;", /^cell 2: /],
      ["Deno.exit(3);", /kernel died$/],
    ] as const
  ) {
    const found = await execute(folder, notebookOf(textCell("text"), codeCell(source))) as string;
    assertMatch(found, failure);
    assertEquals(found.includes("\x1b"), false);
  }
});
