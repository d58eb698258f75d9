/** From the command line to values: every mistake is one line that names the flag and the mend. */
import { parseArgs } from "@std/cli/parse-args";
import { UsageError } from "../../lib/errors.ts";
import { nearest } from "../../lib/nearest.ts";
import { type Flag, type FlagKind, flagsOf, type Task } from "./flags.ts";

/** Values of the flags that were given, by flag name: each a list of alternatives, at least one. */
export type FlagValues = ReadonlyMap<string, readonly unknown[]>;

/** Kinds whose value may be left out. */
const OPTIONAL: ReadonlySet<FlagKind> = new Set(["boolean", "optional text"]);
/** Kinds whose value is one text, commas included. */
const WHOLE: ReadonlySet<FlagKind> = new Set(["optional text", "ratios file"]);

/**
 * Joins a flag with its value where the parser would take the value for a flag of its own (`--theta -0.5`), and
 * writes out values that were left out.
 */
function joinValues(args: readonly string[], flags: { readonly [name: string]: Flag }): string[] {
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
 * Checks what the parser would let pass: values of flags that take none, and words after `--`.
 *
 * @param switches Names of the flags that take no value.
 * @throws {UsageError} If there is one.
 */
export function expectSwitches(args: readonly string[], switches: readonly string[]): void {
  for (const arg of args) {
    if (arg === "--") throw new UsageError('Cannot use argument "--": expected flags alone (see --help)');
    const name = switches.find((name) => arg.startsWith(`--${name}=`));
    if (name === undefined) continue;
    throw new UsageError(
      `Cannot use --${name}: found "${arg.slice(name.length + 3)}", expected --${name} alone`,
    );
  }
}

/**
 * Reads the arguments of a task that has nothing to do with the method: flags with one text each, and switches.
 *
 * @throws {UsageError} If a flag is unknown, a switch has a value, or a word is no flag.
 */
export function parseOwnFlags<T extends string, S extends string>(
  args: readonly string[],
  texts: readonly T[],
  switches: readonly S[],
): { readonly [K in T]?: string } & { readonly [K in S]: boolean } {
  expectSwitches(args, switches);
  const known = [...texts, ...switches];
  return parseArgs([...args], {
    string: [...texts],
    boolean: [...switches],
    alias: { help: "h" },
    unknown: (argument: string, name?: string) => {
      const mend = name === undefined ? "expected flags alone" : `the nearest is "--${nearest(name, known)}"`;
      throw new UsageError(`Cannot use "${argument}": ${mend} (see --help)`);
    },
  }) as unknown as { readonly [K in T]?: string } & { readonly [K in S]: boolean };
}

/**
 * Reads a task's arguments.
 *
 * @param lists Whether a flag may have several values, separated by commas.
 * @throws {UsageError} If a flag is unknown, given twice, or without a value of its kind.
 */
export function parseFlags(task: Task, args: readonly string[], lists: boolean): FlagValues {
  const flags = flagsOf(task);
  const known = Object.keys(flags);
  const switches = known.filter((name) => flags[name]!.kind === "switch");
  expectSwitches(args, switches);
  const parsed = parseArgs(joinValues(args, flags), {
    alias: { help: "h" },
    boolean: switches,
    string: known.filter((name) => !switches.includes(name)),
    collect: known.filter((name) => !switches.includes(name)),
    unknown: (argument: string, name?: string) => {
      if (name === undefined) {
        throw new UsageError(`Cannot use argument "${argument}": expected flags alone (see --help)`);
      }
      throw new UsageError(
        `Cannot use flag "${argument.split("=")[0]}": "${task}" has no such flag, the nearest is "--${
          nearest(name, known)
        }" (see --help)`,
      );
    },
  });
  const values = new Map<string, readonly unknown[]>();
  for (const name of known) {
    const given = (parsed as unknown as Record<string, unknown>)[name];
    if (given === false || given === undefined || (Array.isArray(given) && given.length === 0)) continue;
    if (given === true) {
      values.set(name, [true]);
      continue;
    }
    const texts = given as string[];
    if (texts.length > 1) {
      throw new UsageError(
        `Cannot use --${name} ${texts.length} times: expected once${
          lists ? ", with values separated by commas" : ""
        }`,
      );
    }
    values.set(name, parseValues(name, flags[name]!, texts[0]!, lists));
  }
  return values;
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
    default:
      return text;
  }
}
