/** Runs that survive an interruption: the folder of their results, and the command that resumes them. */
import { PlaceLostError, UsageError } from "../../../../lib/errors.ts";
import { escapeControls } from "../../../../lib/printable.ts";
import { exists, expectWritable, lockFolder, makeFolder } from "../files.ts";
import { type FlagValues, textOf } from "../flags/parse.ts";
import type { Interrupt } from "./interrupt.ts";
import { EXIT, explainError, writeLine } from "../task.ts";

/** Parent of the results' folder, if no flag names a folder. */
export const RESULTS = "results";

/** The file of a study in its folder of results. */
export const STUDY_FILE = "study.db";

/** Where a run's results are to go, before anything is written. */
interface Destination {
  /** File that a finished run leaves, and that is never appended to; undefined = there is none. */
  readonly result: string | undefined;
  /** The folder that a user named, if any. */
  readonly named: string | undefined;
  /** Whether the run resumes an interrupted one. */
  readonly resumes: boolean;
}

/**
 * The folder for results: `--resume DIR`, `--out DIR`, or one whose name is the time.
 *
 * @throws {UsageError} If it contains a finished run, an unfinished one without `--resume`, or none with it; or if it
 * cannot be written to.
 */
export function readDestination(values: FlagValues, result?: string): Destination {
  const out = textOf(values, "out");
  const resume = textOf(values, "resume");
  if (resume && out && resume !== out) {
    throw new UsageError(`Cannot use --resume "${resume}" with --out "${out}": expected one folder`);
  }
  const named = resume || out, destination = { result, named, resumes: resume !== undefined };
  if (named === undefined && destination.resumes) {
    throw new UsageError("Cannot use --resume: found no folder, expected --resume DIR");
  }
  if (named !== undefined) expectPlace(named, destination);
  expectWritable(named ?? RESULTS);
  return destination;
}

/** Files of finished work from older versions, which had no study, and the fix for each. */
const OLDER: { readonly [file: string]: string } = {
  "trials.jsonl": "take it into a study by deno task study import",
  "methods.jsonl": "finish with that version",
  "items.jsonl": "finish with that version",
  "chunks": "finish with that version",
};

/** Checks that a folder has no finished run, and that it has a study exactly if the run resumes one. */
function expectPlace(folder: string, { result, resumes }: Destination): void {
  if (result !== undefined && exists(`${folder}/${result}`)) {
    throw new UsageError(
      `Cannot write to "${folder}": it holds ${result}, a finished run (take another --out)`,
    );
  }
  const isStudy = exists(`${folder}/${STUDY_FILE}`);
  const old = Object.keys(OLDER).find((file) => !isStudy && exists(`${folder}/${file}`));
  if (old !== undefined) {
    const fix = `${OLDER[old]}, or take another --out`;
    throw new UsageError(`Cannot use "${folder}": it holds ${old}, which an older version wrote (${fix})`);
  }
  if (resumes && !isStudy) {
    throw new UsageError(`Cannot go on with "${folder}": found no ${STUDY_FILE} there (leave --resume out)`);
  }
  if (!resumes && isStudy) {
    throw new UsageError(
      `Cannot write to "${folder}": it holds a study (go on with --resume, or take another --out)`,
    );
  }
}

/**
 * Makes a folder whose name is the time: `results/2026-01-02T03-04-05`, or `…-2` if another run began in the same
 * second.
 *
 * @throws {UsageError} If its parent folder cannot be made.
 */
export function makeResultsFolder(parent = RESULTS, now: Date = new Date()): string {
  makeFolder(parent);
  const name = `${parent}/${now.toISOString().slice(0, 19).replaceAll(":", "-")}`;
  for (let folder = name, count = 2;; folder = `${name}-${count++}`) {
    try {
      Deno.mkdirSync(folder);
      return folder;
    } catch (error) {
      if (!(error instanceof Deno.errors.AlreadyExists)) throw error;
    }
  }
}

/**
 * Makes a run's folder and locks it. The content of the folder is checked again: another run may have begun there, and
 * even ended, since the flags were read.
 *
 * @returns The folder. Only this run writes to it until it is disposed of or the process ends.
 * @throws {UsageError} If another run is at work there, or as {@linkcode readDestination}.
 */
export function claimFolder(destination: Destination): Disposable & { readonly folder: string } {
  const folder = destination.named ?? makeResultsFolder();
  makeFolder(folder);
  const lock = lockFolder(folder);
  try {
    expectPlace(folder, destination);
  } catch (error) {
    lock[Symbol.dispose]();
    throw error;
  }
  return { folder, [Symbol.dispose]: () => lock[Symbol.dispose]() };
}

/** The password in the address of a queue, which may hold any character: up to the last @. */
const PASSWORD = /(rediss?:\/\/)(?:([^:@]+):.*(?=@)|:.*@)/;

/** The command that resumes a run; passwords are left out. */
export function resumeCommand(name: string, args: readonly string[], folder: string): string {
  const kept: string[] = [];
  for (let i = 0; i < args.length; i++) {
    if (/^--(out|resume)(=|$)/.test(args[i]!)) {
      if (!args[i]!.includes("=") && args[i + 1] !== undefined && !args[i + 1]!.startsWith("--")) i++;
    } else kept.push(args[i]!.replace(PASSWORD, "$1$2"));
  }
  const quoted = [...kept, "--resume", folder].map(quoteArgument);
  return `deno task ${name} ${quoted.join(" ")}`;
}

/** An argument as a shell takes it; one with control characters as bash and zsh do, once they are written out. */
export function quoteArgument(arg: string): string {
  if (/^[\w./=,+-]+$/.test(arg)) return arg;
  if (escapeControls(arg) !== arg) return `$'${arg.replaceAll(/[\\']/g, "\\$&")}'`;
  return `'${arg.replaceAll("'", "'\\''")}'`;
}

export interface Interrupted {
  /** The command. */
  readonly name: string;
  readonly args: readonly string[];
  readonly folder: string;
  /** Number of finished units of work in its study, and the name of a unit. */
  readonly finished: number;
  readonly noun: string;
}

/** Reports on stderr how much finished work is kept, and the command that resumes the run. */
export function tellKept(why: string, { name, args, folder, finished, noun }: Interrupted): void {
  const kept = `${finished} finished ${finished === 1 ? `${noun} is` : `${noun}s are`}`;
  const command = resumeCommand(name, args, folder);
  const hidden = args.some((arg) => PASSWORD.test(arg))
    ? " (the queue's password is left out: TOKENFILTER_QUEUE_PASSWORD takes it)"
    : "";
  writeLine(Deno.stderr, `${why}: ${kept} in ${folder}/${STUDY_FILE}. To go on: ${command}${hidden}`);
}

/**
 * Ends a run whose work is kept: one that was interrupted, that found the disk full, or that lost its study or queue.
 *
 * @returns The exit code.
 * @throws The error, if it is none of these, or the kept work cannot be read either.
 */
export function endEarly(error: unknown, interrupt: Interrupt, describe: () => Interrupted): number {
  if (interrupt.caused(error)) {
    tellKept("Interrupted", describe());
    return interrupt.code;
  }
  const { cause = error } = error as { readonly cause?: unknown };
  const isFull = (cause as { readonly code?: unknown } | null)?.code === "ENOSPC";
  if (!isFull && !(error instanceof PlaceLostError)) throw error;
  let kept: Interrupted;
  try {
    kept = describe();
  } catch {
    throw error;
  }
  tellKept(explainError(error)!, kept);
  return EXIT.usage;
}

/**
 * Writes the results of a run. Its work is kept until they are written.
 *
 * @param save Writes them, and returns what it wrote.
 * @returns That, or the reason why they could not be written.
 */
export async function saveResults<T>(
  save: () => Promise<T>,
): Promise<{ readonly saved?: T; readonly failure?: string }> {
  try {
    return { saved: await save() };
  } catch (error) {
    const failure = explainError(error);
    if (failure === undefined) throw error;
    return { failure };
  }
}
