import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { withFolder } from "../../commands/testing.ts";
import { CellError, executeNotebook } from "./execute.ts";
import { run as runProgram } from "../../../ffi/build/command.ts";
import { ensureJupyter } from "./jupyter.ts";
import { formatNotebook, type Notebook, readNotebook } from "./notebook.ts";
import { checkOutputs } from "./outputs.ts";
import { codeCell, notebookOf, textCell } from "./testing.ts";
import { IN_SLOW_TIER, NOT_ON_WINDOWS, unless } from "../../../lib/testing.ts";

const python = (await runProgram("python3", ["-m", "pip", "--version"])).success;

/** A test that needs python3 with pip; in the slow tier, since it installs Jupyter. */
function test(name: string, fn: (folder: string) => Promise<void>): void {
  Deno.test({
    ...unless(!python && "found no python3 with pip" || IN_SLOW_TIER, name),
    fn: () => withFolder(fn),
  });
}

/** Runs a notebook in a folder. */
async function execute(folder: string, notebook: Notebook): Promise<Notebook> {
  const path = `${folder}/a.ipynb`, out = `${folder}/out.ipynb`;
  await Deno.writeTextFile(path, formatNotebook(notebook));
  const jupyter = await ensureJupyter();
  await executeNotebook({ jupyter, path, folder, out, model: "a-model" });
  return await readNotebook(out);
}

Deno.test({
  ...unless(NOT_ON_WINDOWS, "executeNotebook() fails where its program ends without a word of a cell"),
  fn: () =>
    withFolder(async (folder) => {
      const python = `${folder}/python`, path = `${folder}/a.ipynb`, out = `${folder}/out.ipynb`;
      const script = `#!/bin/sh\necho '{"cell": 2}'\necho no memory >&2\nexit 3\n`, cells: number[] = [];
      await Deno.writeTextFile(python, script, { mode: 0o755 });
      const options = { jupyter: { python, folder }, path, folder, out, model: "m" };
      const run = () => executeNotebook({ ...options, onCell: (cell) => cells.push(cell) });
      await assertRejects(run, Error, `Cannot execute "${path}": no memory`);
      assertEquals(cells, [3]);
    }),
});

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
  const run = await execute(folder, notebook);
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
  const { python } = await ensureJupyter();
  const folder = decodeURIComponent(new URL(".", import.meta.url).pathname);
  const { stdout, stderr } = await runProgram(python, ["-c", MESSAGES, folder]);
  assertEquals([stdout, stderr], ['["own", "late"]\n', ""]);
});

test("executeNotebook() names the cell that fails, and what it threw", async (folder) => {
  const failing = notebookOf(textCell("text"), codeCell("1;"), codeCell("throw new RangeError('too far');"));
  const error = await assertRejects(() => execute(folder, failing), CellError, "cell 3: RangeError: too far");
  assertEquals(error.message.includes("\x1b"), false);
  const broken = await assertRejects(() => execute(folder, notebookOf(codeCell("const = 1;"))), CellError);
  assertStringIncludes(broken.message, "cell 1");
});

test("executeNotebook() ends when its kernel does", async (folder) => {
  await assertRejects(() => execute(folder, notebookOf(codeCell("Deno.exit(3);"))), CellError, "kernel died");
});
