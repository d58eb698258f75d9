/**
 * The scripts of `.ci/` that have passed, by their sources: `.ci/verified.json` contains digests of these. Scripts
 * whose sources are unchanged are not run again, or only in part.
 *
 * ```sh
 * deno task verified                                 # names of the scripts whose sources are others now
 * deno task verified --note "cuda mutants" --out FILE # the digests, with those two as they are now
 * ```
 */
import { parseOwnFlags } from "../commands/cli/flags/parse.ts";
import { EXIT, runTask, writeLine } from "../commands/cli/task.ts";
import { findUnverified, noteVerified } from "./verified/noted.ts";

export const USAGE = `Usage: deno task verified [flags]

Prints the names of the scripts of .ci/ whose sources are not those that .ci/verified.json notes.

  --note "NAMES"
      note these scripts, separated by spaces, with their sources as they are
  --out FILE.json
      where the notes go (.ci/verified.json)`;

/** Runs the command. @returns The exit code. */
export async function main(args: readonly string[], root?: string): Promise<number> {
  const { note, out } = parseOwnFlags(args, ["note", "out"], []);
  if (note === undefined) { for (const script of await findUnverified(root)) writeLine(Deno.stdout, script); }
  else await noteVerified(note.split(" "), root, out);
  return EXIT.ok;
}

if (import.meta.main) await runTask(main, USAGE);
