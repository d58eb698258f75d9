/** One run of the list. */
import type { Env, Target } from "./execute.ts";

/** A run. `TMP/` in an argument stands for the folder of inputs and results. */
export interface Run {
  /** Unique. */
  readonly name: string;
  readonly target: Target;
  readonly args: readonly string[];
  /** Variables of the environment. */
  readonly env?: Env;
  /** A requirement on the machine, one of `Machine.has`. */
  readonly needs?: string;
  /** Folder or file that it leaves, below `TMP/`. */
  readonly output?: string;
}

/** A command line from its parts, of which some may be empty. */
export function line(...parts: readonly string[]): string {
  return parts.filter((part) => part !== "").join(" ");
}

/** The words of a command line. */
export function words(text: string): string[] {
  return text === "" ? [] : text.split(" ");
}

/** A run of a task, named by its command line or otherwise. */
export function taskRun(task: string, args: string, more: Partial<Run> = {}): Run {
  return { name: line(task, args), target: { task }, args: words(args), ...more };
}
