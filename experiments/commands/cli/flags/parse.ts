/** From the command line to values: every mistake is one line that names the flag and the fix. */
import { parseArgs } from "@std/cli/parse-args";
import { UsageError } from "../../../../lib/errors.ts";
import { LAYER_SETS } from "../../../../lib/filter/option.ts";
import { sayNearest } from "../../../../lib/nearest.ts";
import { plural } from "../../../../lib/plural.ts";
import { callOf, type Declaration } from "../command.ts";
import type { Flag, FlagKind, FlagValues } from "./flag.ts";
import { ALWAYS } from "./flags.ts";

export type { FlagValues };

/** The text that a flag gives, if it is given. */
export const textOf = (values: FlagValues, name: string): string | undefined =>
  values.get(name)?.[0] as string | undefined;

/** Earlier names of flags, with the present ones. */
const RENAMED_FLAGS: ReadonlyMap<string, string> = new Map([
  ["fusion", "method"],
  ["kv-fusion", "kv-method"],
  ["window", "threshold-window"],
  ["products", "matmul"],
  ["beside", "full-model"],
  ["whole-share", "whole-fraction"],
]);

/** Kinds whose value may be left out. */
const OPTIONAL: ReadonlySet<FlagKind> = new Set(["boolean", "optional text"]);
/** Kinds whose value is one text, commas included. */
const WHOLE: ReadonlySet<FlagKind> = new Set(["optional text", "ratios file"]);

/**
 * Joins a flag with its value, and adds a value that was left out. Otherwise the parser would take some values for
 * flags (`--theta -0.5`) or words (`--study ""`).
 */
export function joinValues(
  args: readonly string[],
  flags: { readonly [name: string]: Pick<Flag, "kind"> | undefined },
): string[] {
  const joined: string[] = [];
  for (let i = 0; i < args.length; i++) {
    const flag = flags[args[i]!.replace(/^--/, "")];
    const next = args[i + 1];
    if (!args[i]!.startsWith("--") || flag === undefined || flag.kind === "switch") {
      joined.push(args[i]!);
    } else if (flag.kind === "boolean" && !/^(true|false)(,(true|false))*$/.test(next ?? "")) {
      joined.push(`${args[i]}=true`);
    } else if (next === undefined || (next.startsWith("-") && !/^-[\d.]/.test(next))) {
      joined.push(`${args[i]}=`);
    } else {
      joined.push(`${args[i]}=${next}`);
      i++;
    }
  }
  return joined;
}

/**
 * Refuses two faults that the parser accepts: a value of a flag that takes none, and words after `--`.
 *
 * @param switches Names of the flags that take no value.
 * @throws {UsageError} If there is one.
 */
function expectSwitches(args: readonly string[], switches: readonly string[]): void {
  for (const arg of args) {
    if (arg === "--") throw new UsageError('Cannot use argument "--": expected only flags (see --help)');
    const name = switches.find((name) => arg.startsWith(`--${name}=`));
    if (name === undefined) continue;
    throw new UsageError(
      `Cannot use --${name}: found "${arg.slice(name.length + 3)}", expected --${name} without a value`,
    );
  }
}

/** A whole number that a flag gives. @throws {UsageError} If it is none, or out of range. */
export function readInteger(
  flag: string,
  text: string,
  least: number,
  most = Number.MAX_SAFE_INTEGER,
): number {
  const value = Number(text);
  if (text !== "" && Number.isInteger(value) && value >= least && value <= most) return value;
  const isBounded = most < Number.MAX_SAFE_INTEGER || value > most;
  const range = isBounded ? `from ${least} to ${most}` : `of at least ${least}`;
  throw new UsageError(`Cannot use --${flag} ${text}: expected an integer ${range}`);
}

/** One of the words that a flag takes. @throws {UsageError} If it is none of them. */
export function expectChoice<T extends string>(flag: string, text: string, choices: readonly T[]): T {
  const choice = choices.find((choice) => choice === text);
  if (choice !== undefined) return choice;
  throw new UsageError(`Cannot use --${flag} "${text}": expected one of ${choices.join(", ")}`);
}

/** The arguments of a command. */
export interface Arguments {
  readonly values: FlagValues;
  /** Words that are no flags. */
  readonly words: readonly string[];
}

/**
 * Reads the arguments of a command.
 *
 * @throws {UsageError} If a flag is not one of the command's, is given twice, or is without a value of its kind; or if
 * there are too few or too many words.
 */
export function parseArguments(
  declaration: Pick<Declaration, "name" | "call" | "usage" | "flags" | "words" | "lists">,
  args: readonly string[],
): Arguments {
  const { name: command, lists = false, words: taken } = declaration;
  const flags: { readonly [name: string]: Flag } = { ...declaration.flags, ...ALWAYS };
  const known = Object.keys(flags);
  const switches = known.filter((name) => flags[name]!.kind === "switch");
  expectSwitches(args, switches);
  const parsed = parseArgs(joinValues(args, flags), {
    alias: { help: "h" },
    boolean: switches,
    string: [...known.filter((name) => !switches.includes(name)), "_"],
    collect: known.filter((name) => !switches.includes(name)),
    unknown: (argument: string, name?: string) => {
      if (name === undefined) {
        if (taken !== undefined) return true;
        throw new UsageError(`Cannot use argument "${argument}": expected only flags (see --help)`);
      }
      // Its value may be a secret.
      const flag = argument.split("=")[0], renamed = RENAMED_FLAGS.get(name);
      if (renamed !== undefined && known.includes(renamed)) {
        throw new UsageError(`Cannot use flag "${flag}": use --${renamed} instead`);
      }
      const nearest = sayNearest(name, known, ", ", "--");
      throw new UsageError(`Cannot use flag "${flag}": "${command}" has no such flag${nearest} (see --help)`);
    },
  });
  const values = new Map<string, readonly unknown[]>();
  for (const name of known) {
    const given = (parsed as unknown as Record<string, boolean | string[] | undefined>)[name];
    if (given === true) values.set(name, [true]);
    if (!Array.isArray(given) || given.length === 0) continue;
    if (given.length > 1) {
      const comma = lists ? ", with values separated by commas" : "";
      throw new UsageError(`Cannot use --${name} ${given.length} times: expected once${comma}`);
    }
    values.set(name, parseValues(name, flags[name]!, given[0]!, lists));
  }
  const words = parsed._.map(String), { least = 0, most = 0, flag, choices } = taken ?? {};
  const names = choices?.map(({ name }) => name);
  if (names !== undefined && !names.includes(words[0]!)) {
    const line = [command, ...words.slice(0, 1)].join(" ");
    throw new UsageError(`Cannot run ${line}: expected one of ${names.join(", ")} (see --help)`);
  }
  if (words.length < least || words.length > most) {
    throw new UsageError(
      `Cannot run ${command} with ${plural(words.length, "name")}: expected ` +
        `${callOf(declaration)} ${declaration.usage} (see --help)`,
    );
  }
  if (flag === undefined || words.length === 0) return { values, words };
  if (values.has(flag)) {
    throw new UsageError(`Cannot use "${words[0]}" with --${flag}: expected one of them`);
  }
  return { values: values.set(flag, words), words: [] };
}

function parseValues(name: string, flag: Flag, text: string, lists: boolean): unknown[] {
  if (text === "" && !OPTIONAL.has(flag.kind)) {
    throw new UsageError(`Cannot use --${name}: found no value, expected --${name} ${flag.value}`);
  }
  const isWhole = WHOLE.has(flag.kind) || flag.option === undefined;
  const parts = isWhole ? [text] : text.split(",").map((part) => part.trim());
  if (parts.length > 1 && !lists) {
    throw new UsageError(
      `Cannot use --${name} ${text}: found ${parts.length} values, expected one (sweep takes lists)`,
    );
  }
  return parts.map((part) => parseValue(name, flag, part));
}

function parseValue(name: string, flag: Flag, text: string): unknown {
  const refuse = (expected: string) =>
    new UsageError(`Cannot use --${name}: found "${text}", expected ${expected}`);
  switch (flag.kind) {
    case "number":
      if (!/^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(text)) throw refuse("a number");
      return Number(text);
    case "integer": {
      if (!/^[-+]?\d+$/.test(text)) throw refuse("an integer");
      const value = Number(text);
      return Number.isSafeInteger(value) ? value : BigInt(text.replace("+", ""));
    }
    case "boolean":
      if (text !== "true" && text !== "false") throw refuse("true or false");
      return text === "true";
    case "names":
      return text.split("+");
    case "layers":
      if ((LAYER_SETS as readonly string[]).includes(text)) return text;
      if (!/^\d+(\+\d+)*$/.test(text)) throw refuse(`${LAYER_SETS.join(", ")}, or layers as in 7+18+20`);
      return text.split("+").map(Number);
    default:
      return text;
  }
}
