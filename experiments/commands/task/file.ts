/** Tasks of the user's own, from files: `--task-file FILE.ts` or `FILE.yaml`, or several with commas between them. */
import { UsageError } from "../../../lib/errors.ts";
import type { Task } from "../../../lib/eval/task.ts";
import { type OwnTask, ownTasks, setOwnTasks } from "../../../lib/eval/tasks/own_task.ts";
import { TASKS } from "../../../lib/eval/tasks/mod.ts";
import { sha256 } from "../../../lib/sha256.ts";
import type { RunConditions } from "../../../lib/sweep/trial.ts";
import { importFile, listPaths, readBytes, readText } from "../cli/files.ts";
import { type FlagValues, textOf } from "../cli/flags/parse.ts";
import { readHarnessGroup, readHarnessTask } from "./harness.ts";
import type { Fields } from "./fields.ts";
import { defineQuestions, type OwnQuestions, refusal } from "./questions.ts";

const NAME = /^[a-z][\w-]*$/i;

/** Keys of every task that opens its data itself. */
const TASK_KEYS = ["help", "protocol", "loss", "headline", "metrics"];

/** The task that a module exports, checked as far as possible before it runs. */
function expectTask(path: string, exported: Fields): Task {
  const refuse = (what: string) => refusal(path, what);
  const tasks = Object.values(exported).filter((value) =>
    typeof value === "object" && value !== null && ("ask" in value || "open" in value)
  ) as Partial<OwnQuestions & Task>[];
  if (tasks.length !== 1) {
    throw refuse(
      `found ${tasks.length} exports with "ask" or "open", expected one: { name, ask(row) }, or a whole task`,
    );
  }
  const own = tasks[0]!, { name, ask, data } = own;
  if (typeof name !== "string") throw refuse('found no "name", expected a text');
  if (own.open !== undefined) {
    const missing = TASK_KEYS.find((key) => !(key in own));
    if (missing === undefined && typeof own.open === "function") return own as Task;
    throw refuse(`found no "${missing ?? "open"}", which a task that opens itself has`);
  }
  const { help = name, protocol = help, metrics = ["acc"] } = own;
  if (typeof ask !== "function") throw refuse(`found an "ask" that is ${typeof ask}, expected a function`);
  if (data !== undefined && typeof data !== "string") throw refuse('found "data" that is no path');
  if (!Array.isArray(metrics)) throw refuse('found "metrics" that are no list');
  return defineQuestions(path, { name, help, protocol, metrics, ask, ...(data !== undefined && { data }) });
}

/** The fault in a record of a task in a file: no such file was given, or another one. */
export function findWrongTask({ task, taskSha256 }: Partial<RunConditions>): string | undefined {
  const own = ownTasks().map(({ sha256 }) => sha256);
  if (taskSha256 === undefined || [...own, own.join("+")].includes(taskSha256)) return undefined;
  return `its task "${task}" is of a file of SHA-256 ${taskSha256}: expected it as --task-file`;
}

/**
 * The files of `--task-file`, each group of lm-evaluation-harness (`group: NAME`, `task: [A, B]`) as the files of its tasks in the group's folder.
 *
 * @throws {UsageError} If a file cannot be read, or a group has no list of tasks.
 */
export async function listTaskFiles(text: string | undefined): Promise<readonly string[]> {
  const listed = listPaths(text).map(async (path) =>
    /\.ya?ml$/i.test(path) ? await membersOf(path) ?? path : path
  );
  return (await Promise.all(listed)).flat();
}

/** The files of a group's tasks; undefined of a file that is no group. */
async function membersOf(path: string): Promise<string[] | undefined> {
  const names = readHarnessGroup(path, await readText(path));
  return names?.map((name) => path.replace(/[^/\\]*$/, () => /\.ya?ml$/i.test(name) ? name : `${name}.yaml`));
}

/** Loads the tasks of `--task-file`, and leaves the flags as they are. */
export async function withTask(values: FlagValues): Promise<FlagValues> {
  await takeTaskFiles(await listTaskFiles(textOf(values, "task-file")));
  return values;
}

/**
 * Adds the tasks of files to the list of tasks, instead of those of an earlier run.
 *
 * @throws {UsageError} If a file cannot be read or run, or holds no task, or two tasks have one name.
 */
export async function takeTaskFiles(paths: readonly string[]): Promise<void> {
  setOwnTasks([]);
  const own: OwnTask[] = [];
  for (const path of paths) {
    const { task, sha256 } = await readTaskFile(path);
    if ([...TASKS, ...own.map(({ task }) => task)].some(({ name }) => name === task.name)) {
      throw new UsageError(
        `Cannot use the task "${task.name}" of a file: found its name taken, expected another`,
      );
    }
    own.push({ task, sha256 });
  }
  setOwnTasks(own);
}

async function readTaskFile(path: string): Promise<OwnTask> {
  const digest = await sha256(await readBytes(path));
  const task = /\.ya?ml$/i.test(path)
    ? defineQuestions(path, readHarnessTask(path, await readText(path)))
    : expectTask(path, await importFile(path, digest));
  if (NAME.test(task.name)) return { task, sha256: digest };
  throw refusal(path, `found the name ${JSON.stringify(task.name)}, expected letters, digits, - and _`);
}
