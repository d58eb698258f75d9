/** A flag of a command: how its text is read, and what its help says. */

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

/** A named value of a flag. */
export interface Choice {
  readonly name: string;
  readonly help: string;
}

/** Headings of the help. */
export const SUBJECTS = ["What runs", "Method", "Choice of tokens", "Where", "How", "Results"] as const;

export interface Flag {
  readonly kind: FlagKind;
  /** Placeholder of its value in the help; words between `|` are all its values. */
  readonly value?: string;
  readonly help: string;
  /** The heading that it stands under; default: "How". */
  readonly subject?: (typeof SUBJECTS)[number];
  /** Whether only `--help all` lists it. */
  readonly isRare?: boolean;
  /** Values with a meaning of their own. */
  readonly choices?: readonly Choice[];
  /** The option of the method that it sets. */
  readonly option?: string;
}

/** Values of the given flags, by flag name: each is a list of one or more alternatives. */
export type FlagValues = ReadonlyMap<string, readonly unknown[]>;

export type Flags = { readonly [name: string]: Flag };

const flag = (kind: FlagKind) => (value: string, help: string): Flag => ({ kind, value, help });

export const text = flag("text");
export const optional = flag("optional text");
export const number = flag("number");

export const integer = (help: string): Flag => ({ kind: "integer", value: "N", help });

export const onOff = (help: string): Flag => ({ kind: "switch", help });

/** A flag whose values are names. */
export const choice = (choices: readonly Choice[], help: string, value = namesOf(choices)): Flag => ({
  ...{ kind: "text", value, help, choices },
});

const namesOf = (choices: readonly Choice[]) => choices.map(({ name }) => name).join("|");

/** Choices of a table that is keyed by their names. */
export const choicesOf = (table: { readonly [name: string]: { readonly help: string } }): Choice[] =>
  Object.entries(table).map(([name, { help }]) => ({ name, help }));

const withEach = <F extends Flags>(flags: F, part: Partial<Flag>): F =>
  Object.fromEntries(Object.entries(flags).map(([name, flag]) => [name, { ...flag, ...part }])) as F;

/** Flags under a heading of the help. */
export const under = <F extends Flags>(subject: Flag["subject"] & string, flags: F): F =>
  withEach(flags, { subject });

/** Flags that only `--help all` lists. */
export const rarely = <F extends Flags>(flags: F): F => withEach(flags, { isRare: true });

/** Some flags of a table, by name. */
export function pick<F extends Flags, N extends keyof F & string>(flags: F, ...names: N[]): Pick<F, N> {
  return Object.fromEntries(names.map((name) => [name, flags[name]])) as Pick<F, N>;
}
