/**
 * The skeleton of commands. A command declares itself and its steps: what it reads, plans, computes and shows. Only this
 * file and `run_study.ts` parse flags, claim places for results, report progress, save and print.
 */
import { expectWritable, makeFolder, writeWhole } from "./cli/files.ts";
import type { Command, Declaration } from "./cli/command.ts";
import { type Arguments, parseArguments, textOf } from "./cli/flags/parse.ts";
import { Progress } from "./cli/output/progress.ts";
import {
  type PlainTable,
  printTable,
  readTable,
  type TableContext,
  type TableRequest,
} from "./cli/output/table.ts";
import { EXIT, giveUp } from "./cli/task.ts";

/** The request of the command line. */
export interface Asked extends Arguments {
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

/** A command that prints what it has to say itself. F: what it reads of its flags. */
interface PlainCommand<F> extends Declaration {
  /** Reads the flags and the files that they name: all that can be checked before the work begins. */
  read(asked: Asked): F | Promise<F>;
  /** @returns The exit code; 0 where it gives none. */
  work(flags: F, asked: Asked): number | void | Promise<number | void>;
}

/** A command that ends with a table. F: what it reads of its flags, P: its plan, R: its result. */
export interface TableCommand<F, P, R> extends Declaration {
  /** Reads the flags and the files that they name: all that can be checked before a model is obtained. */
  read(asked: Asked): F | Promise<F>;
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
interface SingleCommand<F, P, R> extends TableCommand<F, P, R> {
  work(plan: P, asked: Asked): R | Promise<R>;
}

/** Reads a command line, and loads the files that it names. */
export async function readCommandLine(
  declaration: Declaration,
  args: readonly string[],
): Promise<Omit<Asked, "held">> {
  const { values: given, words } = parseArguments(declaration, args);
  const values = await declaration.prepare?.(given) ?? given;
  const progress = new Progress(values.has("quiet") ? undefined : Deno.stderr);
  return { values, words, progress, named: undefined };
}

/** Files of a result that were written. */
interface Written {
  /** A line that names the report. */
  readonly place: string;
  /** Their names; the last one is the result. */
  readonly names: readonly string[];
}

/** Writes the files of a result. */
export async function writeResult<F, P, R>(
  command: TableCommand<F, P, R>,
  folder: string,
  result: R,
  plan: P,
): Promise<Written> {
  const pages = await command.pages?.(result, plan) ?? {}, file = `${command.json(result, plan)}\n`;
  const files = { ...pages, [command.file]: file }, names = Object.keys(files);
  for (const [name, content] of Object.entries(files)) await writeWhole(`${folder}/${name}`, content);
  const report = names.find((name) => name.endsWith(".html"));
  const place = report === undefined ? `Results: ${folder}/${command.file}` : `Report: ${folder}/${report}`;
  return { place, names };
}

/** Prints the table of a result, and the line that names its report. */
export async function printResult<F, P, R>(
  command: TableCommand<F, P, R>,
  request: TableRequest,
  result: R,
  plan: P,
  place: string | undefined,
): Promise<void> {
  const { table, notes, ...context } = command.table(result, plan, request.columns);
  const json = () => command.json(result, plan), lines = place === undefined ? notes : [...notes, place];
  await printTable(table, request, { ...context, json, notes: lines });
}

/** A command that prints by itself. */
export function plainCommand<F>(command: PlainCommand<F>): Command {
  return {
    ...command,
    async main(args) {
      await using held = new AsyncDisposableStack();
      const asked = { ...await readCommandLine(command, args), held };
      return await command.work(await command.read(asked), asked) ?? EXIT.ok;
    },
  };
}

/** A command that begins again each time, and ends with a table. */
export function singleCommand<F, P, R>(command: SingleCommand<F, P, R>): Command {
  return {
    ...command,
    async main(args) {
      await using held = new AsyncDisposableStack();
      const asked = { ...await readCommandLine(command, args), held }, { values, progress } = asked;
      const flags = await command.read(asked), table = readTable(values, command.columns(flags));
      const folder = textOf(values, "out")?.replace(/(?<=.)\/+$/, "");
      if (folder !== undefined) expectWritable(folder);
      const plan = await command.plan(flags, asked);
      await giveUp("run", "net");
      const result = await command.work(plan, asked);
      progress.clear();
      if (folder !== undefined) makeFolder(folder);
      const written = folder === undefined ? undefined : await writeResult(command, folder, result, plan);
      await printResult(command, table, result, plan, written?.place);
      return EXIT.ok;
    },
  };
}
