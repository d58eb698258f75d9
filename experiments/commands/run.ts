/**
 * The skeleton of commands that end with a table. A command declares its flags, plan, work, table and pages. Only this
 * file parses flags, claims the folder of results, opens its study, resumes, handles interrupts, reports progress,
 * saves and prints.
 */
import type { StudyConditions, StudyStore } from "../../lib/sweep/mod.ts";
import { expectWritable, makeFolder, writeWhole } from "./cli/files.ts";
import type { Task } from "./cli/flags/flag.ts";
import { describeTask } from "./cli/flags/help.ts";
import { type FlagValues, parseFlags, textOf } from "./cli/flags/parse.ts";
import { takeFiles, withRule } from "./cli/flags/rule.ts";
import { type BackendRequest, readBackend } from "./cli/machine/backend.ts";
import { Progress } from "./cli/output/progress.ts";
import {
  type PlainTable,
  printTable,
  readTable,
  type TableContext,
  type TableRequest,
} from "./cli/output/table.ts";
import { Interrupt } from "./cli/run/interrupt.ts";
import { MemoryWatch } from "./cli/run/memory.ts";
import { claimFolder, endEarly, readDestination, saveResults, tellKept } from "./cli/run/resume.ts";
import { openStudyIn, removeStudy } from "./cli/run/study_store.ts";
import { EXIT, type Main } from "./cli/task.ts";

/** The request of the command line. */
export interface Asked {
  readonly values: FlagValues;
  readonly request: BackendRequest;
  readonly progress: Progress;
  /** The folder that a user named for results, if any. */
  readonly named: string | undefined;
  /** Resources that are disposed of when the run ends, however it ends. */
  readonly held: AsyncDisposableStack;
}

/** Files of results by name. */
type Pages = { readonly [name: string]: string | Uint8Array };

/** The table that a command ends with. */
interface Shown extends Omit<TableContext, "json"> {
  readonly table: PlainTable;
}

/** A command. F: its flags, P: its plan, R: its result. */
export interface Command<F, P, R> {
  readonly task: Task;
  /** Its help: usage and purpose, then examples of flags. */
  readonly about: string;
  readonly examples: readonly string[];
  /** Whether options of the method may have several values. */
  readonly lists?: boolean;
  /** Whether the rule of `--rule` is one of several methods, not the method that runs. */
  readonly listsRule?: boolean;
  /** Reads the flags and the files that they name: all that can be checked before a model is obtained. */
  flags(asked: Asked): F | Promise<F>;
  /** Columns of its table. */
  columns(flags: F): readonly string[];
  /** Obtains model and data, opens the backend, and refuses a run that is impossible. Nothing is written. */
  plan(flags: F, asked: Asked): P | Promise<P>;
  /** Name of the file of the result, which is written last. */
  readonly file: string;
  /** The content of that file, and of `--json`. */
  json(result: R, plan: P): string;
  /** Files next to it; an HTML page is the report. */
  pages?(result: R, plan: P): Pages | Promise<Pages>;
  /** The table that is printed in the end. @param columns Those that were asked for, if any were. */
  table(result: R, plan: P, columns: TableRequest["columns"]): Shown;
}

/** A command whose work is done in one piece; `--out` names the folder of its results. */
interface SingleCommand<F, P, R> extends Command<F, P, R> {
  work(plan: P, asked: Asked): R | Promise<R>;
}

/** Resources of a run that can be interrupted. */
export interface Running extends Asked {
  readonly folder: string;
  /** The study that keeps units of work as they end. */
  readonly store: StudyStore;
  readonly interrupt: Interrupt;
  readonly memory: MemoryWatch;
}

/** The description of a run, which is shown before it begins. */
interface Planned {
  /** Conditions that all its numbers depend on. */
  readonly conditions: StudyConditions;
  /** The trials and the backend, in words. */
  readonly line: string;
}

/** A command whose units of work are kept in a study as they end, so that it can be interrupted. */
interface StudyCommand<F, P extends Planned, R> extends Command<F, P, R> {
  /** Whether a finished run may be continued; else the file of its result marks its end. */
  readonly grows?: boolean;
  /** Whether results hold all that the study does, which is then removed. */
  readonly dropsStudy?: boolean;
  work(plan: P, running: Running): Promise<R>;
  /** Number of finished units in the study, and the name of a unit. */
  kept(store: StudyStore): { readonly finished: number; readonly noun: string };
  /** Called when results are written, or could not be. @param place A line that names the report, if it is written. */
  ended?(plan: P, place: string | undefined): Promise<void>;
}

interface Entry {
  readonly main: Main;
  readonly USAGE: (all: boolean) => string;
}

type Own = Pick<Command<unknown, unknown, unknown>, "task" | "about" | "examples" | "lists" | "listsRule">;

const usageOf = ({ task, about, examples }: Own) => describeTask(task, about, examples);

/** Reads a command line, and loads the files that it names. */
export async function readCommandLine(
  { task, lists = false, listsRule }: Pick<Own, "task" | "lists" | "listsRule">,
  args: readonly string[],
): Promise<Omit<Asked, "held">> {
  const given = parseFlags(task, args, lists);
  const values = listsRule ? (await takeFiles(given), given) : await withRule(given);
  const progress = new Progress(values.has("quiet") ? undefined : Deno.stderr);
  return { values, progress, request: readBackend(values), named: undefined };
}

/** Writes the files of a result. @returns A line that names the report. */
async function writeResult<F, P, R>(command: Command<F, P, R>, folder: string, result: R, plan: P) {
  const pages = await command.pages?.(result, plan) ?? {}, file = `${command.json(result, plan)}\n`;
  for (const [name, content] of Object.entries({ ...pages, [command.file]: file })) {
    await writeWhole(`${folder}/${name}`, content);
  }
  const report = Object.keys(pages).find((name) => name.endsWith(".html"));
  return report === undefined ? `Results: ${folder}/${command.file}` : `Report: ${folder}/${report}`;
}

/** Prints the table of a result, and the line that names its report. */
async function printResult<F, P, R>(
  command: Command<F, P, R>,
  request: TableRequest,
  result: R,
  plan: P,
  place: string | undefined,
): Promise<void> {
  const { table, notes, ...context } = command.table(result, plan, request.columns);
  const json = () => command.json(result, plan), lines = place === undefined ? notes : [...notes, place];
  await printTable(table, request, { ...context, json, notes: lines });
}

/** A command that begins again each time. */
export function singleCommand<F, P, R>(command: SingleCommand<F, P, R>): Entry {
  const main = async (args: readonly string[]): Promise<number> => {
    await using held = new AsyncDisposableStack();
    const asked = { ...await readCommandLine(command, args), held }, { values, progress } = asked;
    const flags = await command.flags(asked), table = readTable(values, command.columns(flags));
    const folder = textOf(values, "out");
    if (folder !== undefined) expectWritable(folder);
    const plan = await command.plan(flags, asked);
    const result = await command.work(plan, asked);
    progress.clear();
    if (folder !== undefined) makeFolder(folder);
    const place = folder && await writeResult(command, folder, result, plan);
    await printResult(command, table, result, plan, place);
    return EXIT.ok;
  };
  return { main, USAGE: usageOf(command) };
}

/** A command that resumes after an interruption. */
export function studyCommand<F, P extends Planned, R>(command: StudyCommand<F, P, R>): Entry {
  const { task } = command;
  const main = async (args: readonly string[]): Promise<number> => {
    await using held = new AsyncDisposableStack();
    const before = { ...await readCommandLine(command, args), held }, { values, progress } = before;
    const flags = await command.flags(before), table = readTable(values, command.columns(flags));
    const destination = readDestination(values, command.grows ? undefined : command.file),
      asked = { ...before, named: destination.named };
    const plan = await command.plan(flags, asked);
    // Listens before the first line is out: a reader of that line may stop the task.
    using interrupt = new Interrupt();
    using memory = new MemoryWatch();
    progress.line(plan.line);
    progress.start();
    using claimed = claimFolder(destination);
    const { folder } = claimed;
    using store = await openStudyIn(folder, task, plan.conditions, values);
    const kept = () => ({ task, args, folder, ...command.kept(store) });
    await interrupt.ready;
    try {
      const result = await command.work(plan, { ...asked, folder, store, interrupt, memory });
      const { place, failure } = await saveResults(() => writeResult(command, folder, result, plan));
      progress.clear();
      if (place !== undefined && command.dropsStudy) removeStudy(store);
      await command.ended?.(plan, place);
      await printResult(command, table, result, plan, place);
      if (failure === undefined) return EXIT.ok;
      tellKept(failure, kept());
      return EXIT.usage;
    } catch (error) {
      progress.clear();
      return endEarly(error, interrupt, kept);
    }
  };
  return { main, USAGE: usageOf(command) };
}
