/** Runs that survive an interruption: where their results go, and the command that goes on. */
import { UsageError } from "../../lib/errors.ts";
import { exists, expectWritable } from "./files.ts";
import type { Task } from "./flags.ts";
import type { FlagValues } from "./parse.ts";
import { newResultsFolder } from "./results.ts";
import { writeLine } from "./task.ts";

/** What a task leaves in its folder. */
export interface RunFiles {
  /** What a message calls the run, with its article. */
  readonly noun: string;
  /** File or folder of finished work. */
  readonly work: string;
  /** File that is there once the run is over, and that nothing is added to; undefined = there is none. */
  readonly result?: string;
}

/**
 * The folder for results: `--resume DIR`, `--out DIR`, or one named by the time.
 *
 * @throws {UsageError} If it holds a run that is over, one that is to go on without `--resume`, or none to go on with;
 * or if it cannot be written to.
 */
export function readDestination(values: FlagValues, { noun, work, result }: RunFiles): string {
  const out = values.get("out")?.[0] as string | undefined;
  const resume = values.get("resume")?.[0] as string | undefined;
  if (resume && out && resume !== out) {
    throw new UsageError(`Cannot use --resume "${resume}" with --out "${out}": expected one folder`);
  }
  const folder = resume || out || (resume === undefined ? newResultsFolder() : "");
  if (folder === "") throw new UsageError("Cannot use --resume: found no folder, expected --resume DIR");
  if (result !== undefined && exists(`${folder}/${result}`)) {
    throw new UsageError(
      `Cannot write to "${folder}": it holds ${result}, a finished run (take another --out)`,
    );
  }
  const held = exists(`${folder}/${work}`);
  if (resume !== undefined && !held) {
    throw new UsageError(`Cannot go on with "${folder}": found no ${work} there (leave --resume out)`);
  }
  if (resume === undefined && held) {
    throw new UsageError(
      `Cannot write to "${folder}": it holds ${noun} (go on with --resume, or take another --out)`,
    );
  }
  expectWritable(folder);
  return folder;
}

/** The command that goes on with an interrupted run. */
function resumeCommand(task: Task, args: readonly string[], folder: string): string {
  const kept: string[] = [];
  for (let i = 0; i < args.length; i++) {
    if (/^--(out|resume)(=|$)/.test(args[i]!)) {
      if (!args[i]!.includes("=") && args[i + 1] !== undefined && !args[i + 1]!.startsWith("--")) i++;
    } else kept.push(args[i]!);
  }
  const quoted = [...kept, "--resume", folder].map((arg) =>
    /^[\w./=,+-]+$/.test(arg) ? arg : `'${arg.replaceAll("'", "'\\''")}'`
  );
  return `deno task ${task} ${quoted.join(" ")}`;
}

/** An interrupted run. */
export interface Interrupted {
  readonly task: Task;
  readonly args: readonly string[];
  readonly folder: string;
  /** File or folder of finished work. */
  readonly work: string;
  /** How many pieces of work are finished, and what one is called. */
  readonly finished: number;
  readonly noun: string;
}

/** Says on stderr what is kept, and how to go on. */
export function tellInterrupted({ task, args, folder, work, finished, noun }: Interrupted): void {
  writeLine(
    Deno.stderr,
    `Interrupted: ${finished} finished ${
      finished === 1 ? `${noun} is` : `${noun}s are`
    } in ${folder}/${work}. To go on: ${resumeCommand(task, args, folder)}`,
  );
}
