/** The type of a flag, and the commands that take flags. */

/** The tasks that take flags from the table. */
export type Task =
  | "sweep"
  | "score"
  | "filter"
  | "heads"
  | "compare"
  | "eval"
  | "generate"
  | "serve"
  | "reproduce";

export type FlagKind =
  | "text" // as it stands
  | "number"
  | "integer"
  | "boolean" // `--x`, `--x true`, `--x false`
  | "switch" // only `--x`
  | "optional text" // `--x` or `--x TEXT`
  | "names" // joined by +
  | "layers" // a word, or numbers joined by +
  | "ratios file"; // path of a JSON list of numbers

export interface Flag {
  readonly kind: FlagKind;
  /** Placeholder of its value in the help. */
  readonly value?: string;
  readonly help: string;
  readonly option?: string;
  /** Tasks that take it; all where left out. */
  readonly tasks?: readonly Task[];
}

export type Flags = { readonly [name: string]: Flag };

export const TEXTS: readonly Task[] = ["sweep", "score", "heads", "compare"];

export const MODEL: readonly Task[] = [...TEXTS, "eval", "generate", "serve"];

/** Tasks that run a model; in a recipe's task, the recipe gives the method. */
export const RUNNING: readonly Task[] = [...MODEL, "reproduce"];

export const SKIPPING: readonly Task[] = ["sweep", "score", "compare", "eval", "generate", "serve"];

/** Tasks that end with a table, and may keep results in a folder. */
export const TABLING: readonly Task[] = [...TEXTS, "filter", "eval", "reproduce"];

export const ITEMS: readonly Task[] = ["eval", "compare", "sweep"];

export const GENERATING: readonly Task[] = ["generate"];

type Tasks = readonly Task[];

function flag(kind: FlagKind, value: string | undefined, help: string, tasks?: Tasks): Flag {
  return { kind, help, ...(value !== undefined && { value }), ...(tasks && { tasks }) };
}

export const text = (value: string, help: string, tasks?: Tasks): Flag => flag("text", value, help, tasks);

export const optional = (value: string, help: string, tasks?: Tasks): Flag =>
  flag("optional text", value, help, tasks);

export const number = (value: string, help: string, tasks?: Tasks): Flag =>
  flag("number", value, help, tasks);

export const integer = (help: string, tasks?: Tasks): Flag => flag("integer", "N", help, tasks);

export const onOff = (help: string, tasks?: Tasks): Flag => flag("switch", undefined, help, tasks);
