/** Runs tasks as a user does, for tests. */
export { withFolder } from "../../lib/testing.ts";
import { fileURLToPath } from "node:url";
import { DatabaseSync } from "node:sqlite";
import { UsageError } from "../../lib/errors.ts";
import { StudyStore } from "../../lib/sweep/mod.ts";
import { describeCommand } from "./cli/flags/help.ts";
import { executeTask } from "./cli/task.ts";

const root = new URL("../../", import.meta.url);

/** Exit code and output of a finished run. */
export interface Finished {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

const { tasks }: { tasks: Record<string, string> } = JSON.parse(
  await Deno.readTextFile(new URL("deno.json", root)),
);

/** The module that a task of deno.json runs, as a path from the project's folder. */
export function moduleOf(task: string): string {
  const path = tasks[task]?.match(/experiments\/\S+\.ts/)?.[0];
  if (path === undefined) throw new Error(`Cannot find the module of task "${task}" in deno.json`);
  return path;
}

/** Starts a task. Paths in `args` are taken from the project's folder; `env` is next to this process's own. */
export function spawnTask(
  task: string,
  args: readonly string[],
  env: { readonly [name: string]: string } = {},
): Deno.ChildProcess {
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", moduleOf(task), ...args],
    cwd: root,
    env,
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

/** Waits for the end of a started task. */
export async function finish(child: Deno.ChildProcess): Promise<Finished> {
  const { code, stdout, stderr } = await child.output();
  const decoder = new TextDecoder();
  return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
}

/** Runs a task to its end in a process of its own, if the process itself is tested, or several run at once. */
export async function runProcess(task: string, ...args: string[]): Promise<Finished> {
  return await finish(await spawnTask(task, args));
}

/** Runs a task to its end in this process, one at a time: a process takes longer to start than most tasks run. */
export async function runTask(task: string, ...args: string[]): Promise<Finished> {
  const { command, main, USAGE } = await import(new URL(moduleOf(task), root).href);
  using stdout = capture(Deno.stdout), stderr = capture(Deno.stderr);
  const code = command === undefined
    ? await executeTask(main, args, USAGE)
    : await executeTask(command.main, args, (all) => describeCommand(command, all));
  return { code, stdout: stdout.text(), stderr: stderr.text() };
}

const captured = new Set<typeof Deno.stdout>();

/** Captures the output to a stream, as a pipe does, until it is disposed of. */
export function capture(stream: typeof Deno.stdout): Disposable & { text(): string } {
  if (captured.has(stream)) throw new Error("Cannot run two tasks at once in one process: use runProcess()");
  captured.add(stream);
  const { writeSync, isTerminal } = stream, decoder = new TextDecoder();
  let text = "";
  stream.writeSync = (bytes) => (text += decoder.decode(bytes, { stream: true }), bytes.length);
  stream.isTerminal = () => false;
  return {
    text: () => text,
    [Symbol.dispose]() {
      Object.assign(stream, { writeSync, isTerminal });
      captured.delete(stream);
    },
  };
}

/**
 * A copy of the project for a test file, made of links, in which one folder is a true copy that may be changed. It is
 * removed at the end.
 */
export function copyProject(folder: string): string {
  const copy = Deno.makeTempDirSync({ prefix: "tokenfilter-copy-" });
  addEventListener("unload", () => Deno.removeSync(copy, { recursive: true }));
  const parts = folder.split("/");
  parts.forEach((part, depth) => {
    const above = parts.slice(0, depth).map((name) => `${name}/`).join("");
    for (const { name } of Deno.readDirSync(new URL(above, root))) {
      if (name === part || name === ".git" || name === "results") continue;
      Deno.symlinkSync(new URL(above + name, root), `${copy}/${above}${name}`);
    }
    Deno.mkdirSync(`${copy}/${above}${part}`);
  });
  copyFolder(fileURLToPath(new URL(folder, root)), `${copy}/${folder}`);
  return copy;
}

/** Copies the content of a folder into an existing one. */
function copyFolder(from: string, to: string): void {
  for (const { name, isDirectory } of Deno.readDirSync(from)) {
    if (!isDirectory) Deno.copyFileSync(`${from}/${name}`, `${to}/${name}`);
    else {
      Deno.mkdirSync(`${to}/${name}`);
      copyFolder(`${from}/${name}`, `${to}/${name}`);
    }
  }
}

/** Names of everything in a folder that is not hidden, sorted. */
export function listFolder(folder: string): string[] {
  return [...Deno.readDirSync(folder)].map((entry) => entry.name).filter((name) => name[0] !== ".").sort();
}

/** The arguments of the command with which an interrupted task can be resumed. */
export function resumeArguments(task: string, stderr: string): string[] {
  const [, command] = stderr.match(new RegExp(`To go on: deno task ${task} (.*)\n`))!;
  return [...command!.matchAll(/'([^']*)'|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain!);
}

/** Starts a task, and interrupts it once a condition holds: as Ctrl-C does, or by another signal. */
export async function interruptTask(
  task: string,
  args: readonly string[],
  isTime: () => boolean,
  signal: Deno.Signal = "SIGINT",
): Promise<Finished> {
  const child = await spawnTask(task, args);
  let hasEnded = false;
  const ended = finish(child).finally(() => hasEnded = true);
  while (!isTime() && !hasEnded) await new Promise((resolve) => setTimeout(resolve, 2));
  if (!hasEnded) child.kill(signal);
  return await ended;
}

/** How many units of a kind the study of a folder holds; none where there is no study yet. */
export function countUnits(folder: string, kind: string): number {
  try {
    using store = StudyStore.open(`${folder}/study.db`);
    return store.countUnits(kind);
  } catch (error) {
    if (error instanceof UsageError) return 0;
    throw error;
  }
}

/** Takes the last units out of a folder's study, as if the run had been interrupted before them. */
export function dropLastUnits(folder: string, count: number): void {
  using db = new DatabaseSync(`${folder}/study.db`);
  db.exec(
    `DELETE FROM unit WHERE sequence IN (SELECT sequence FROM unit ORDER BY sequence DESC LIMIT ${count})`,
  );
}
