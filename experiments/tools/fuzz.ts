/**
 * Reads files that are broken at random, of all kinds that a user may be given: each must load, or be refused in one line.
 *
 * usage: deno run -A $(deno run -A --no-config --no-lock .std/flags.ts) experiments/tools/fuzz.ts [--files 10000] [--seed 1]
 */
import { parseOwnFlags, readInteger } from "../commands/cli/flags/parse.ts";
import { EXIT, runTask, writeLine } from "../commands/cli/task.ts";
import { fuzz, KINDS } from "./fuzz/kinds_testing.ts";

/** Runs the command. @returns The exit code. @throws {Error} If a file is not read as it must be; names which. */
export async function main(args: readonly string[]): Promise<number> {
  const flags = parseOwnFlags(args, ["files", "seed"], []);
  const files = readInteger("files", flags.files ?? "10000", 1),
    seed = readInteger("seed", flags.seed ?? "1", 0);
  const kinds = Object.keys(KINDS);
  for (const name of kinds) {
    const outcome = await fuzz(name, Math.ceil(files / kinds.length), seed, KINDS[name]);
    const { refused, slowestMs, mostBytes } = outcome;
    writeLine(
      Deno.stdout,
      `${name}: ${outcome.files} files, ${refused} refused, slowest ${slowestMs.toFixed(0)} ms, ` +
        `most ${(mostBytes / 1e6).toFixed(1)} MB beyond four times a file`,
    );
  }
  return EXIT.ok;
}

if (import.meta.main) await runTask(main);
