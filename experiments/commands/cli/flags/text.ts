/** Numbers of tokens, contexts and texts that a user names, checked. */
import { readBuiltinText } from "../../../../lib/eval/text/mod.ts";
import { readText } from "../files.ts";
import { type FlagValues, readInteger } from "./parse.ts";

export interface NamedText {
  readonly name: string;
  readonly text: string;
}

/** The text of a file, or the built-in one. @throws {UsageError} If the file cannot be read. */
export async function readNamedText(path?: string): Promise<NamedText> {
  if (path === undefined) return { name: "built-in prose", text: await readBuiltinText() };
  return { name: path.split(/[/\\]/).at(-1)!, text: await readText(path) };
}

/** A whole number that a flag gives, if it is given. @throws {UsageError} If it is none, or out of range. */
export function readCount(
  values: FlagValues,
  name: string,
  least: number,
  most?: number,
): number | undefined {
  const value = values.get(name)?.[0];
  return value === undefined ? undefined : readInteger(name, String(value), least, most);
}
