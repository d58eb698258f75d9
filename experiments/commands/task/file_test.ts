/** Tests `--task-file` against built-in tasks: YAML of lm-evaluation-harness, and modules. */
import { fileURLToPath } from "node:url";
import { assertEquals, assertMatch, assertRejects, assertStringIncludes } from "@std/assert";
import { UsageError } from "../../../lib/errors.ts";
import { findTask, ownTasks, readItemRows, setOwnTasks } from "../../../lib/eval/mod.ts";
import { sha256 } from "../../../lib/sha256.ts";
import { listFolder, runTask, withFolder } from "../testing.ts";
import { hasItems, readTaskText } from "./data.ts";
import { listTaskFiles, takeTaskFiles } from "./file.ts";

const DATA = fileURLToPath(new URL("../eval/testdata/items/", import.meta.url));

/** Rows of a built-in task's file. */
const rowsOf = (task: string): { [name: string]: unknown }[] =>
  Deno.readTextFileSync(`${DATA}${task}.jsonl`).trimEnd().split("\n").map((line) => JSON.parse(line));

const jsonl = (rows: readonly object[]) => rows.map((row) => `${JSON.stringify(row)}\n`).join("");

/** PIQA as lm-evaluation-harness has it, but for its name and where its rows are. */
const PIQA = `tag: null
task: own_piqa
dataset_path: json
dataset_kwargs:
  data_files:
    validation: own.jsonl
output_type: multiple_choice
training_split: train
validation_split: validation
test_split: null
doc_to_text: "Question: {{goal}}\\nAnswer:"
doc_to_target: label
doc_to_choice: "{{[sol1, sol2]}}"
should_decontaminate: true
doc_to_decontamination_query: goal
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
  - metric: acc_norm
    aggregation: mean
    higher_is_better: true
metadata:
  version: 1.0
`;

/** ARC-easy likewise: the right choice is named by its label. */
const ARC = `task: own_arc
dataset_path: json
dataset_kwargs: { data_files: { test: rows.json } }
output_type: multiple_choice
test_split: test
doc_to_text: "Question: {{question}}\\nAnswer:"
doc_to_target: "{{choices.label.index(answerKey)}}"
doc_to_choice: "{{choices.text}}"
`;

/** Writes both tasks and their rows, in the form that the hub has them. */
function writeTasks(folder: string): void {
  const piqa = rowsOf("piqa").map(({ query, choices, gold }) => {
    const [sol1, sol2] = choices as string[];
    return { goal: query, sol1, sol2, label: gold };
  });
  const arc = rowsOf("arc_easy").map(({ query, choices, gold }) => {
    const text = choices as string[], label = text.map((_, i) => "ABCDE"[i]!);
    return { question: query, choices: { label, text }, answerKey: label[gold as number] };
  });
  Deno.writeTextFileSync(`${folder}/own.jsonl`, jsonl(piqa));
  Deno.writeTextFileSync(`${folder}/rows.json`, JSON.stringify(arc));
  Deno.writeTextFileSync(`${folder}/piqa.yaml`, PIQA);
  Deno.writeTextFileSync(`${folder}/arc.yml`, ARC);
  Deno.writeTextFileSync(
    `${folder}/piqa.ts`,
    'export const task = { name: "own_piqa", help: "PIQA", data: "own.jsonl", metrics: ["acc", "acc_norm"],\n' +
      "  ask: ({ goal, sol1, sol2, label }: Record<string, unknown>) => ({\n" +
      "    context: `Question: ${goal}\\nAnswer:`, choices: [sol1, sol2], gold: label }) };\n",
  );
}

Deno.test("report, study and diff take the task of a file, and refuse its results without it", () =>
  withFolder(async (folder) => {
    writeTasks(folder);
    const own = ["--task-file", `${folder}/piqa.yaml`], out = `${folder}/s`;
    const args = [...own, "--method", "random", "--filter-from", "50%", "--recent", "2", "--threads", "1"];
    assertEquals((await runTask("sweep", ...args, "--quiet", "--out", out)).code, 0);
    const digest = await sha256(PIQA);
    for (
      const words of [["report", out, "--out", `${folder}/site`], ["study", "show", out], ["diff", out, out]]
    ) {
      const [task, ...rest] = words as [string, ...string[]], refused = await runTask(task, ...rest);
      assertEquals([refused.code, refused.stdout, refused.stderr.trimEnd().split("\n").length], [2, "", 1]);
      assertStringIncludes(
        refused.stderr,
        `its task "own_piqa" is of a file of SHA-256 ${digest}: expected it as`,
      );
      const { code, stderr } = await runTask(task, ...rest, ...own);
      assertEquals([code, stderr], [0, ""], task);
    }
    assertStringIncludes(Deno.readTextFileSync(`${folder}/site/index.html`), "dense acc 50.0%");
  }));

/** The numbers of a run, without names, digests and times. */
const numbersOf = (text: string) => {
  const { results, items } = JSON.parse(text);
  const bare = (rows: object[]) => rows.map((row) => ({ ...row, task: "", id: "" }));
  return { results: bare(results), items: bare(items) };
};

Deno.test("eval of a task in a file finds exactly what it finds of the built-in one", () =>
  withFolder(async (folder) => {
    writeTasks(folder);
    const method = ["--method", "key", "--prune-ratio", "0.4", "--filter-from", "50%", "--threads", "1"];
    const run = async (...args: string[]) => {
      const { code, stdout, stderr } = await runTask("eval", ...method, ...args, "--json", "--quiet");
      assertEquals([code, stderr], [0, ""]);
      return stdout;
    };
    for (const [name, files] of [["piqa", ["piqa.yaml", "piqa.ts"]], ["arc_easy", ["arc.yml"]]] as const) {
      const theirs = await run("--data", DATA, "--tasks", name, "--out", `${folder}/${name}`);
      for (const file of files) {
        const path = `${folder}/${file}`, own = await run("--task-file", path, "--out", `${path}.out`);
        assertEquals(numbersOf(own), numbersOf(theirs), file);
        const { environment } = JSON.parse(own);
        assertEquals(environment.taskSha256, await sha256(Deno.readTextFileSync(path)));
        assertEquals(
          environment.tasks[0].promptsSha256,
          JSON.parse(theirs).environment.tasks[0].promptsSha256,
        );
      }
    }
  }));

Deno.test("sweep and compare take a task from a file, and refuse to go on with another file", () =>
  withFolder(async (folder) => {
    writeTasks(folder);
    const small = ["--filter-from", "50%", "--recent", "2", "--threads", "1", "--quiet", "--json"];
    const sweep = ["--task-file", `${folder}/piqa.yaml`, ...small, "--method", "random,key"];
    const first = await runTask("sweep", ...sweep, "--out", `${folder}/s`);
    assertEquals([first.code, first.stderr], [0, ""]);
    const builtin = ["--task", "piqa", "--data", DATA, ...small, "--method", "random,key"];
    const second = await runTask("sweep", ...builtin, "--out", `${folder}/b`);
    const [own, theirs] = [first, second].map(({ stdout }) => JSON.parse(stdout));
    const losses = ({ trials }: { trials: { acc: number; lossBlocks: object }[] }) =>
      trials.map(({ acc, lossBlocks }) => ({ acc, lossBlocks }));
    assertEquals(losses(own), losses(theirs));
    const { task, taskSha256, items } = own.environment;
    assertEquals([task, taskSha256, items], [
      "own_piqa",
      await sha256(Deno.readTextFileSync(`${folder}/piqa.yaml`)),
      2,
    ]);
    const compared = await runTask(
      "compare",
      ...["--task-file", `${folder}/piqa.yaml`, ...small, "--methods", "random,key", "--seeds", "1"],
      ...["--out", `${folder}/c`],
    );
    assertEquals([compared.code, compared.stderr], [0, ""]);
    const { environment, methods } = JSON.parse(compared.stdout);
    assertEquals([environment.taskSha256, methods[0].acc], [taskSha256, own.dense.acc]);

    Deno.writeTextFileSync(`${folder}/piqa.yaml`, `${PIQA}\n`);
    const changed = await runTask("sweep", ...sweep, "--resume", `${folder}/s`);
    assertEquals([changed.code, changed.stdout], [2, ""]);
    assertMatch(changed.stderr, /its runs ran with taskSha256 [0-9a-f]{64}, expected the same, found /);
  }));

Deno.test("a group in a file stands for the tasks in its folder, by name", () =>
  withFolder(async (folder) => {
    writeTasks(folder);
    Deno.writeTextFileSync(`${folder}/other.yaml`, PIQA.replace(/^task: .*$/m, "task: other"));
    const group = (lines: string) => Deno.writeTextFileSync(`${folder}/both.yaml`, lines);
    group("group: both\ntask:\n  - piqa\n  - other.yaml\naggregate_metric_list: [{ metric: acc }]\n");
    assertEquals(await listTaskFiles(`${folder}/both.yaml`), [`${folder}/piqa.yaml`, `${folder}/other.yaml`]);
    const run = (path: string) =>
      runTask(
        "eval",
        "--task-file",
        path,
        "--items",
        "2",
        "--method",
        "key",
        "--filter-from",
        "2",
        "--json",
        "--quiet",
      );
    const grouped = await run(`${folder}/both.yaml`),
      listed = await run(`${folder}/piqa.yaml,${folder}/other.yaml`);
    assertEquals([grouped.code, grouped.stderr], [0, ""]);
    assertEquals(JSON.parse(grouped.stdout).results, JSON.parse(listed.stdout).results);
    const cases = [
      [
        "group: both\ntask: piqa\n",
        'found "piqa" for "task" of the group "both", expected a list of names of tasks',
      ],
      ["group: both\ntask: [piqa]\nnum_fewshot: 5\n", 'found "num_fewshot" in the group "both"'],
      ["group: both\ntask: [nowhere]\n", `Cannot read "${folder}/nowhere.yaml"`],
    ] as const;
    for (const [lines, expected] of cases) {
      group(lines);
      const { code, stderr } = await run(`${folder}/both.yaml`);
      assertEquals([code, stderr.trimEnd().split("\n").length], [2, 1], stderr);
      assertStringIncludes(stderr, expected);
    }
  }));

Deno.test("a task in a file is refused in one line that says what is wrong", () =>
  withFolder(async (folder) => {
    writeTasks(folder);
    const without = (line: RegExp, ...more: string[]) => PIQA.replace(line, "") + more.join("\n");
    const cases: [string, string, string][] = [
      [
        "a.yaml",
        without(/^$/, "fewshot_config: 1", "use_prompt: x"),
        'found "fewshot_config", "use_prompt", expected keys',
      ],
      ["a.yaml", "task: [", "Cannot use the task in "],
      ["a.yaml", "- 1", 'found "0", expected keys among task'],
      ["a.yaml", without(/^task.*\n/m), 'found nothing for "task"'],
      ["a.yaml", without(/multiple_choice/, ""), 'found null for "output_type", expected multiple_choice'],
      ["a.yaml", without(/^$/, "num_fewshot: 5"), 'found 5 for "num_fewshot", expected 0'],
      ["a.yaml", PIQA.replace("acc_norm", "f1"), 'found metric {"metric":"f1"'],
      ["a.yaml", PIQA.replace("dataset_path: json", "dataset_path: csv"), 'found dataset_path "csv"'],
      [
        "a.yaml",
        PIQA.replace("validation: own", "test: own"),
        'found nothing for split "validation" in data_files',
      ],
      ["a.yaml", PIQA.replace("{{goal}}", "{% if goal %}a{% endif %}"), "found a statement in "],
      ["a.yaml", PIQA.replace("{{goal}}", "{{goal"), 'found the template "Question: {{goal'],
      ["a.yaml", PIQA.replace("doc_to_target: label", "doc_to_target: [label]"), 'for "doc_to_target"'],
      [
        "a.yaml",
        PIQA.replace("own_piqa", "piqa"),
        'Cannot use the task "piqa" of a file: found its name taken',
      ],
      ["a.yaml", PIQA.replace("own_piqa", "own piqa"), 'found the name "own piqa", expected letters'],
      ["a.ts", "export const x = 1;", 'found 0 exports with "ask" or "open"'],
      ["b.ts", 'export const x = { name: "x", ask: 1 };', 'found an "ask" that is number'],
      ["c.ts", 'export const x = { name: "x", open() {} };', 'found no "help", which a task'],
      [
        "d.ts",
        'export const x = { name: "x", ask() {}, metrics: ["bleu"] };',
        'found metric "bleu", expected some of acc',
      ],
      ["e.ts", "export const x = {", "Cannot run "],
    ];
    for (const [name, text, expected] of cases) {
      Deno.writeTextFileSync(`${folder}/${name}`, text);
      const { message } = await assertRejects(() => takeTaskFiles([`${folder}/${name}`]), UsageError);
      assertStringIncludes(message, expected);
      assertEquals([message.includes("\n"), ownTasks().length], [false, 0], message);
    }
    await assertRejects(() => takeTaskFiles([`${folder}/none.yaml`]), UsageError, "Cannot read ");
  }));

Deno.test("a row that a task in a file cannot ask is refused with its place, before anything is written", () =>
  withFolder(async (folder) => {
    writeTasks(folder);
    const rows = (row: object) => Deno.writeTextFileSync(`${folder}/own.jsonl`, jsonl([row]));
    const good = { goal: "a", sol1: "b", sol2: "c", label: 1 };
    const cases: [object, string][] = [
      [{ ...good, label: 2 }, "found 2 for the right choice, expected the index of one of 2"],
      [{ ...good, label: "d" }, 'found "d" for "doc_to_target", expected one of ["b","c"]'],
      [{ ...good, sol1: "" }, 'found ["","c"] for its choices, expected texts that are not empty'],
      [{ sol1: "b", sol2: "c", label: 1 }, 'found no "goal" for "Question: {{goal}}'],
    ];
    for (const [row, expected] of cases) {
      rows(row);
      const args = [
        "--task-file",
        `${folder}/piqa.yaml`,
        "--method",
        "key",
        "--out",
        `${folder}/out`,
        "--quiet",
      ];
      const { code, stdout, stderr } = await runTask("sweep", ...args);
      assertEquals([code, stdout, listFolder(folder).includes("out")], [2, "", false]);
      assertStringIncludes(stderr, `at "${folder}/own.jsonl", line 1 ${expected}`);
      assertEquals(stderr.trimEnd().split("\n").length, 1);
    }
  }));

Deno.test("templates: fields, methods, lists, numbers, and what the right choice may be", () =>
  withFolder(async (folder) => {
    try {
      const ask = async (lines: string, row: object) => {
        const head = 'task: t\noutput_type: multiple_choice\ntarget_delimiter: ""\ndataset_path: json\n' +
          "dataset_kwargs: {data_files: t.jsonl}\ntest_split: train\n";
        Deno.writeTextFileSync(`${folder}/t.yaml`, head + lines);
        Deno.writeTextFileSync(`${folder}/t.jsonl`, `${JSON.stringify(row)}\n`);
        await takeTaskFiles([`${folder}/t.yaml`]);
        const task = findTask("t");
        if (!hasItems(task) || !("read" in task.items)) throw new Error("found no rows");
        const { text, name } = await readTaskText(new Map(), task);
        const [item] = task.items.read(readItemRows(name, text));
        return [item!.requests.map(({ context, continuation }) => context + continuation), item!.gold];
      };
      const row = { q: "  why? ", a: ["x", "y"], n: 1, right: "y", word: "0" };
      const choice = "doc_to_choice: a\n";
      assertEquals(await ask(`doc_to_text: q\ndoc_to_target: n\n${choice}`, row), [
        ["  why? x", "  why? y"],
        1,
      ]);
      assertEquals(await ask(`doc_to_text: "{{q.strip()}}\\n"\ndoc_to_target: right\n${choice}`, row), [
        ["why?\nx", "why?\ny"],
        1,
      ]);
      assertEquals(
        await ask(`doc_to_text: "{{n}}+{{n}}="\ndoc_to_target: "{{word}}"\ndoc_to_choice: ["2", "é"]\n`, row),
        [
          ["1+1=2", "1+1=é"],
          0,
        ],
      );
      assertEquals(await ask(`doc_to_text: q\ndoc_to_target: 1\ndoc_to_choice: "{{[right, q]}}"\n`, row), [
        ["  why? y", "  why?   why? "],
        1,
      ]);
      assertEquals(await ask(`doc_to_text: q\ndoc_to_target: "{{a.index(right)}}"\n${choice}`, row), [
        ["  why? x", "  why? y"],
        1,
      ]);
      assertEquals((await ask(`doc_to_text: q\ndoc_to_target: "{{right}}"\n${choice}`, row))[1], 1);
    } finally {
      setOwnTasks([]);
    }
  }));
