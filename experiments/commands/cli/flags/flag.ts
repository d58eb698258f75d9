/** What a flag is, and which commands there are to take it. */

/** The tasks that take flags from the table. */
export type Task = "sweep" | "score" | "filter" | "heads" | "compare" | "eval" | "generate" | "serve";

/** How a flag's text becomes a value. */
export type FlagKind =
  | "text" // as it stands
  | "number"
  | "integer"
  | "boolean" // `--x`, `--x true`, `--x false`
  | "switch" // `--x` alone
  | "optional text" // `--x` or `--x TEXT`
  | "names" // joined by +
  | "ratios file"; // path of a JSON list of numbers

export interface Flag {
  readonly kind: FlagKind;
  /** What stands for its value in the help. */
  readonly value?: string;
  readonly help: string;
  /** The option of the method that it sets. */
  readonly option?: string;
  /** Tasks that take it; all where left out. */
  readonly tasks?: readonly Task[];
}

export type Flags = { readonly [name: string]: Flag };

/** Tasks that run a model on a text. */
export const TEXTS: readonly Task[] = ["sweep", "score", "heads", "compare"];

/** Tasks that run a model. */
export const MODEL: readonly Task[] = [...TEXTS, "eval", "generate", "serve"];

/** Tasks that skip attention. */
export const SKIPPING: readonly Task[] = ["sweep", "score", "compare", "eval", "generate", "serve"];

/** Tasks that end with a table, and may keep results in a folder. */
export const TABLING: readonly Task[] = [...TEXTS, "filter", "eval"];

/** Tasks that score items. */
export const ITEMS: readonly Task[] = ["eval", "compare", "sweep"];

/** Tasks that make tokens. */
export const GENERATING: readonly Task[] = ["generate"];

/** One flag of the table. */
export function flag(kind: FlagKind, value: string | undefined, help: string, tasks?: readonly Task[]): Flag {
  return { kind, help, ...(value !== undefined && { value }), ...(tasks && { tasks }) };
}
