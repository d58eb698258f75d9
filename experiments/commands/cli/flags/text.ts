/** Numbers of tokens, contexts and texts that a user names, checked. */
import { UsageError } from "../../../../lib/errors.ts";
import { readBuiltinText } from "../../../../lib/eval/mod.ts";
import { readText } from "../files.ts";
import type { FlagValues } from "./parse.ts";

export interface NamedText {
  readonly name: string;
  readonly text: string;
}

/** The text of a file, or the built-in one. @throws {UsageError} If the file cannot be read. */
export async function readNamedText(path?: string): Promise<NamedText> {
  if (path === undefined) return { name: "built-in prose", text: await readBuiltinText() };
  return { name: path.split(/[/\\]/).at(-1)!, text: await readText(path) };
}

/** A whole number that a flag gives, from `least` to `most`. @throws {UsageError} If it is none. */
export function readCount(
  values: FlagValues,
  name: string,
  least: number,
  most = Number.MAX_SAFE_INTEGER,
): number | undefined {
  const value = values.get(name)?.[0];
  if (value === undefined) return undefined;
  if (typeof value !== "number" || value < least || value > most) {
    const range = value as number < least ? `of at least ${least}` : `from ${least} to ${most}`;
    throw new UsageError(`Cannot use --${name} ${value}: expected an integer ${range}`);
  }
  return value;
}
