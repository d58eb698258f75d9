/** The declaration of a command: its help, its completion, its page of the docs and its line in deno.json follow from it. */
import type { Choice, Flags, FlagValues } from "./flags/flag.ts";

/** Permissions of a command that runs a model: files, the hub, native code, its compiler, and the machine's memory. */
export const RUNS_MODEL = "-RWEN --allow-ffi --allow-run -S=systemMemoryInfo";

/** Words of a command line that are no flags. */
export interface Words {
  readonly least: number;
  readonly most: number;
  /** The flag whose value a word is. */
  readonly flag?: string;
  /** What the first word may be, each with its meaning and with the words that follow. */
  readonly choices?: readonly Choice[];
}

export interface Declaration {
  /** Its name, as `deno task` takes it. */
  readonly name: string;
  /** How it is called; default: `deno task NAME`. */
  readonly call?: string;
  /** What it does, in one sentence. */
  readonly summary: string;
  /** Words and flags behind its name, in the help. */
  readonly usage: string;
  /** The paragraphs of its help after the summary, divided by empty lines. */
  readonly about?: string;
  /** Arguments of calls. */
  readonly examples?: readonly string[];
  /** All flags that it takes, but those of every command. */
  readonly flags: Flags;
  /** Default: none. */
  readonly words?: Words;
  /** Whether options of the method may have several values. */
  readonly lists?: boolean;
  /** Flags of Deno that grant what it needs. */
  readonly permissions: string;
  /** Flags of V8. */
  readonly v8?: string;
  /** Loads files of code and text that flags name. @returns The flags with what follows from these files. */
  prepare?(values: FlagValues): Promise<FlagValues>;
}

/** A command's work: takes its arguments and gives an exit code. */
export type Main = (args: readonly string[]) => Promise<number>;

export interface Command extends Declaration {
  readonly main: Main;
}

export const callOf = ({ name, call }: Pick<Declaration, "name" | "call">): string =>
  call ?? `deno task ${name}`;

/** The line of a command in deno.json. @param path Its module, from the project's folder. */
export const taskLine = ({ permissions, v8 }: Declaration, path: string): string =>
  ["deno run", permissions, ...v8 === undefined ? [] : [`--v8-flags=${v8}`], path].join(" ");
